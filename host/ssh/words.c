/* SPDX-License-Identifier: Apache-2.0 */
#include "ssh/ssh.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"

#define SAFE "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"

char *ssh_quote(const char *word)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    if (*word && strspn(word, SAFE) == strlen(word)) {
        return xstrdup(word);
    }
    buf_putc(&out, '\'');
    for (const char *p = word; *p; p++) {
        if (*p == '\'') {
            buf_puts(&out, "'\"'\"'");
        } else {
            buf_putc(&out, *p);
        }
    }
    buf_putc(&out, '\'');
    return buf_steal(&out);
}

/* Takes what one quote protects. @p is behind the opening quote; returns the closing one or NULL.
 */
static const char *take_quoted(const char *p, char quote, struct buf *word)
{
    for (; *p && *p != quote; p++) {
        if (quote == '"' && *p == '\\' && p[1] && strchr("\"\\$`\n", p[1])) {
            p++;
            if (*p == '\n') {
                continue;
            }
        }
        buf_putc(word, *p);
    }
    return *p ? p : NULL;
}

/* Takes one word; @p is at its first character. Returns what follows it, or NULL. */
static const char *take_word(const char *p, struct buf *word)
{
    for (; *p && !strchr(" \t\r\n", *p); p++) {
        if (*p == '\'' || *p == '"') {
            p = take_quoted(p + 1, *p, word);
            if (!p) {
                return NULL;
            }
        } else if (*p == '\\' && p[1]) {
            p++;
            if (*p != '\n') {
                buf_putc(word, *p);
            }
        } else {
            buf_putc(word, *p);
        }
    }
    return p;
}

int ssh_words(const char *text, struct strv *ret, struct error *err)
{
    scoped(strv_done) struct strv words = STRV_INIT;
    const char *p = text;

    for (;;) {
        scoped(buf_done) struct buf word = BUF_INIT;

        p += strspn(p, " \t\r\n");
        if (!*p) {
            break;
        }
        p = take_word(p, &word);
        if (!p) {
            return error_set(err, EINVAL, "'%s': a quote is not closed", text);
        }
        strv_take(&words, buf_steal(&word));
    }
    strv_extend(ret, &words);
    return 0;
}
