/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/shell_script.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "ssh/ssh.h"

static void put_quoted(struct buf *out, const char *word)
{
    scoped(free) char *quoted = ssh_quote(word);

    buf_puts(out, quoted);
}

/* Length of NAME in "NAME=value", or 0 if @word is no assignment. */
static size_t name_len(const char *word)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    size_t n = strspn(word, all);

    return n > 0 && strchr(letters, word[0]) && word[n] == '=' ? n : 0;
}

char *shell_script_command(const char *const *words)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    bool leading = true;

    if (!*words) {
        return NULL;
    }
    for (; *words; words++) {
        size_t n = leading ? name_len(*words) : 0;

        if (out.len > 0) {
            buf_putc(&out, ' ');
        }
        if (n > 0) {
            buf_printf(&out, "%.*s=", (int)n, *words);
            put_quoted(&out, *words + n + 1);
        } else {
            leading = false;
            put_quoted(&out, *words);
        }
    }
    return buf_steal(&out);
}

char *shell_script_make(const struct shell_script *script)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    if (script->workdir) {
        buf_puts(&out, "cd ");
        put_quoted(&out, script->workdir);
        buf_puts(&out, " || exit 1 ; ");
    }
    buf_puts(&out, "exec ");
    if (script->env && script->env->len > 0) {
        buf_puts(&out, "env ");
        for (size_t i = 0; i < script->env->len; i++) {
            put_quoted(&out, script->env->items[i]);
            buf_putc(&out, ' ');
        }
    }
    if (script->shell) {
        put_quoted(&out, script->shell);
    } else {
        buf_puts(&out, "\"$SHELL\"");
    }
    buf_puts(&out, " -l");
    if (*script->words) {
        scoped(free) char *command = shell_script_command(script->words);

        buf_puts(&out, " -c ");
        put_quoted(&out, command);
    }
    return buf_steal(&out);
}
