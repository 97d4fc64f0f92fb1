/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass finds the command word (only global flags may stand before it) and, for a command with
 * subcommands, the next one; these words are taken out and everything else is parsed with the set
 * of flags of the command found. So global flags work on both sides.
 */
#include "cmd/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "cmd/configure.h"
#include "util/path.h"
#include "util/sys.h"
#include "util/term.h"
#include "util/version.h"

static const struct cmd_flag global_flags[] = {
    {"debug", 0, CMD_FLAG_BOOL, NULL, "Debug mode"},
    {"help", 'h', CMD_FLAG_BOOL, NULL, "Help for the command"},
    {"log-format", 0, CMD_FLAG_STRING, "text", "Set the logging format [text, json]"},
    {"log-level", 0, CMD_FLAG_STRING, NULL,
     "Set the logging level [trace, debug, info, warn, error]"},
    {"tty", 0, CMD_FLAG_BOOL, NULL,
     "Enable questions and menus; the default is true when stdout is a terminal"},
    {"yes", 'y', CMD_FLAG_BOOL, NULL, "Alias of --tty=false"},
    {0},
};

static const struct cmd_flag root_flags[] = {
    {"version", 'v', CMD_FLAG_BOOL, NULL, "Print the version"},
    {0},
};

/* What the words of a command line came to. */
struct parsed {
    const struct cmd *parent; /* NULL unless cmd is a subcommand */
    const struct cmd *cmd;    /* NULL: limactl itself */
    struct cmd_flags *flags;
    struct strv args;
    bool help;
    bool version;
};

static void parsed_done(struct parsed *p)
{
    cmd_flags_free(p->flags);
    strv_done(&p->args);
}
SCOPED_VAL(struct parsed, parsed_done)

struct cmd_flags *cmd_flags_of(const struct cmd *cmd)
{
    struct cmd_flags *flags = cmd_flags_new();
    const char *section;

    if (!cmd) {
        cmd_flags_add(flags, "Flags", root_flags);
        cmd_flags_add(flags, "Global Flags", global_flags);
        return flags;
    }
    if (cmd->flags) {
        cmd_flags_add(flags, "Flags", cmd->flags);
    }
    section = cmd->more_section ? cmd->more_section : "Flags";
    if (cmd->more_flags) {
        cmd_flags_add(flags, section, cmd->more_flags);
    }
    cmd_config_add(flags, section, cmd->config_flags);
    cmd_flags_add(flags, "Global Flags", global_flags);
    return flags;
}

const struct cmd *cmd_find(const struct cmd *const *table, const char *word)
{
    for (; *table; table++) {
        if (str_eq((*table)->name, word)) {
            return *table;
        }
        for (const char *const *a = (*table)->aliases; a && *a; a++) {
            if (str_eq(*a, word)) {
                return *table;
            }
        }
    }
    return NULL;
}

/* --- unknown words and wrong counts --- */

/* Levenshtein distance, case-insensitive for ASCII, for words of at most 31 letters. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32];
    size_t len = strlen(b);

    if (len >= ARRAY_LEN(row)) {
        return len;
    }
    for (size_t j = 0; j <= len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t swap = diagonal + ((a[i - 1] | 0x20) != (b[j - 1] | 0x20));

            diagonal = row[j];
            row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), swap);
        }
    }
    return row[len];
}

static bool probably_meant(const struct cmd *cmd, const char *word)
{
    if (cmd->group == CMD_GROUP_HIDDEN) {
        return false;
    }
    for (const char *const *s = cmd->suggest_for; s && *s; s++) {
        if (str_eq(*s, word)) {
            return true;
        }
    }
    return distance(word, cmd->name) <= 2 || str_starts(cmd->name, word);
}

int cmd_unknown(const struct cmd *parent, const char *word, struct error *err)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    const struct cmd *const *table = parent ? parent->subcommands : cmd_table;
    bool any = false;

    buf_printf(&text, "unknown command \"%s\" for \"limactl%s%s\"", word, parent ? " " : "",
               parent ? parent->name : "");
    for (; *table; table++) {
        if (probably_meant(*table, word)) {
            buf_printf(&text, "%s\t%s\n", any ? "" : "\n\nDid you mean this?\n", (*table)->name);
            any = true;
        }
    }
    return error_set(err, EINVAL, "%s", buf_str(&text));
}

static char *wrong_count(const struct cmd *cmd, const char *path, const struct strv *args)
{
    size_t min = (size_t)cmd->min_args;
    size_t max = (size_t)cmd->max_args;

    if (args->len >= min && (cmd->max_args < 0 || args->len <= max)) {
        return NULL;
    }
    if (cmd->max_args == 0) {
        return xasprintf("unknown command \"%s\" for \"limactl %s\"", args->items[0], path);
    }
    if (cmd->max_args < 0) {
        return xasprintf("requires at least %zu arg(s), only received %zu", min, args->len);
    }
    if (min == max) {
        return xasprintf("accepts %zu arg(s), received %zu", min, args->len);
    }
    if (min == 0) {
        return xasprintf("accepts at most %zu arg(s), received %zu", max, args->len);
    }
    return xasprintf("accepts between %zu and %zu arg(s), received %zu", min, max, args->len);
}

int cmd_check_args(const struct cmd *parent, const struct cmd *cmd, const struct strv *args,
                   struct error *err)
{
    scoped(free) char *path =
        xasprintf("%s%s%s", parent ? parent->name : "", parent ? " " : "", cmd->name);
    scoped(free) char *reason = wrong_count(cmd, path, args);
    scoped(free) char *use = NULL;

    if (!reason) {
        return 0;
    }
    use = cmd_use_line(parent, cmd);
    return error_set(err, EINVAL, "`limactl %s` %s.\nSee `limactl %s --help`.\n\nUsage:  %s\n\n%s",
                     path, reason, path, use, cmd->brief);
}

/* --- parsing --- */

/*
 * Takes the word of a command out of @words, if global flags alone stand before it.
 * 1: *ret_word is it; 0: there is none.
 */
static int take_command(struct strv *words, char **ret_word, bool *ret_version, struct error *err)
{
    scoped(cmd_flags_free) struct cmd_flags *flags = cmd_flags_of(NULL);
    int i = cmd_flags_parse(flags, words, 0, CMD_FLAGS_BEFORE_ARG, NULL, err);

    if (i < 0) {
        return i;
    }
    *ret_version = cmd_flags_bool(flags, "version");
    if ((size_t)i >= words->len || str_eq(words->items[i], "--")) {
        return 0;
    }
    *ret_word = words->items[i];
    memmove(&words->items[i], &words->items[i + 1],
            (words->len - (size_t)i) * sizeof(words->items[0]));
    words->len--;
    return 1;
}

/* `limactl help [CMD [SUB]]` */
static int parse_help(struct parsed *p, const struct strv *words, struct error *err)
{
    p->help = true;
    for (size_t i = 0; i < words->len; i++) {
        const struct cmd *const *table = p->cmd ? p->cmd->subcommands : cmd_table;
        const struct cmd *found = table ? cmd_find(table, words->items[i]) : NULL;

        if (str_starts(words->items[i], "-")) {
            continue;
        }
        if (!found) {
            return error_set(err, EINVAL, "unknown help topic \"%s\"", words->items[i]);
        }
        p->parent = p->cmd;
        p->cmd = found;
    }
    return 0;
}

/* A command that does something itself: a subcommand has to be the next word. */
static void find_optional_subcommand(struct parsed *p, struct strv *words)
{
    const struct cmd *found = words->len ? cmd_find(p->cmd->subcommands, words->items[0]) : NULL;

    if (found) {
        free(words->items[0]);
        memmove(&words->items[0], &words->items[1], words->len * sizeof(words->items[0]));
        words->len--;
        p->parent = p->cmd;
        p->cmd = found;
    }
}

static int find_subcommand(struct parsed *p, struct strv *words, struct error *err)
{
    scoped(free) char *word = NULL;
    const struct cmd *found;
    bool version;
    int r = take_command(words, &word, &version, err);

    if (r <= 0) {
        p->help = true; /* a group alone explains itself */
        return r;
    }
    found = cmd_find(p->cmd->subcommands, word);
    if (!found) {
        return cmd_unknown(p->cmd, word, err);
    }
    p->parent = p->cmd;
    p->cmd = found;
    return 0;
}

static int parse(struct parsed *p, struct strv *words, struct error *err)
{
    scoped(free) char *word = NULL;
    int r = take_command(words, &word, &p->version, err);

    if (r < 0) {
        return r;
    }
    if (p->version || !word) {
        p->help = !p->version;
        return 0;
    }
    if (str_eq(word, "help")) {
        return parse_help(p, words, err);
    }
    p->cmd = cmd_find(cmd_table, word);
    if (!p->cmd) {
        return cmd_unknown(NULL, word, err);
    }
    if (p->cmd->subcommands && p->cmd->run) {
        find_optional_subcommand(p, words);
    } else if (p->cmd->subcommands) {
        r = find_subcommand(p, words, err);
        if (r < 0 || p->help) {
            return r;
        }
    }
    p->flags = cmd_flags_of(p->cmd);
    r = cmd_flags_parse(p->flags, words, 0, p->cmd->mode, &p->args, err);
    if (r < 0) {
        return r;
    }
    p->help = cmd_flags_bool(p->flags, "help");
    return p->help ? 0 : cmd_check_args(p->parent, p->cmd, &p->args, err);
}

/* --- running --- */

static int setup_log(const struct cmd_flags *flags, struct error *err)
{
    const char *level_text = cmd_flags_text(flags, "log-level");
    const char *format = cmd_flags_text(flags, "log-format");
    enum log_level level;

    if (cmd_flags_bool(flags, "debug")) {
        log_set_level(LOG_LEVEL_DEBUG);
    }
    if (level_text && *level_text) {
        if (log_level_parse(level_text, &level) < 0) {
            return error_set(err, EINVAL, "not a valid logrus Level: \"%s\"", level_text);
        }
        log_set_level(level);
    }
    if (str_eq(format, "json")) {
        log_set_format(LOG_FORMAT_JSON);
    } else if (!str_eq(format, "text")) {
        return error_set(err, EINVAL, "unsupported log-format: \"%s\" (text or json)", format);
    }
    return 0;
}

static int setup_tty(const struct cmd_flags *flags, bool *ret, struct error *err)
{
    bool yes = cmd_flags_bool(flags, "yes");
    bool given = cmd_flags_given(flags, "tty");

    if (given && cmd_flags_given(flags, "yes")) {
        return error_set(err, EINVAL, "cannot use both --tty and --yes flags at the same time");
    }
    *ret = given ? cmd_flags_bool(flags, "tty") : !yes && term_stdout_is_tty();
    return 0;
}

static int run(const struct parsed *p, struct error *err)
{
    struct cmd_context ctx = {.cmd = p->cmd, .flags = p->flags, .args = &p->args};
    scoped(free) char *home = NULL;
    int r = setup_log(p->flags, err);

    if (r < 0) {
        return r;
    }
    r = setup_tty(p->flags, &ctx.tty, err);
    if (r < 0) {
        return r;
    }
    r = path_lima_home(&home, err);
    if (r < 0) {
        return r;
    }
    if (sys_on_nfs(home)) {
        log_warn("LIMA_HOME '%s' is on NFS, where sockets and locks fail at times; ignoring", home);
    }
    if (p->cmd->warns_root && geteuid() == 0) {
        log_warn(
            "running as root: the instance belongs to root, the guest's user is 'lima', ignoring");
    }
    ctx.lima_home = home;
    return p->cmd->run(&ctx, err);
}

static int print_help(const struct parsed *p)
{
    scoped(free) char *text = cmd_help(p->parent, p->cmd);

    fputs(text, stdout);
    return 0;
}

static int dispatch(struct strv *words, struct error *err)
{
    scoped(parsed_done) struct parsed p = {0};
    int r = parse(&p, words, err);

    if (r < 0) {
        return r;
    }
    if (p.version) {
        printf("limactl version %s\n", LIMA_VERSION);
        return 0;
    }
    return p.help ? print_help(&p) : run(&p, err);
}

int cmd_main(int argc, char **argv)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv words = STRV_INIT;
    int r;

    for (int i = 1; i < argc; i++) {
        strv_add(&words, argv[i]);
    }
    r = dispatch(&words, &err);
    if (fflush(stdout) != 0 && r == 0) {
        r = error_errno(&err, errno, "writing to stdout");
    }
    if (r < 0) {
        struct log_field fields[] = {{err.hint ? "hint" : NULL, err.hint}, {NULL, NULL}};

        log_fields(LOG_LEVEL_FATAL, fields, "%s", error_text(&err));
        return 1;
    }
    return r;
}
