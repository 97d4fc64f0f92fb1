/* SPDX-License-Identifier: Apache-2.0 */
/* Everything is collected before anything is printed: a bad template or query prints nothing. */
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "instance/record.h"
#include "instance/store.h"
#include "util/file.h"
#include "util/path.h"
#include "util/sys.h"
#include "util/table.h"
#include "util/term.h"
#include "util/tmpl.h"
#include "util/units.h"

enum kind {
    KIND_TABLE,
    KIND_JSON,
    KIND_YAML,
    KIND_TEMPLATE,
    KIND_NAMES,
};

struct list {
    const struct cmd_context *ctx;
    enum kind kind;
    char *query;  /* all --yq joined, NULL: none */
    char *filter; /* all --filter joined, NULL: none */
    struct strv names;
    struct instance **instances;
    size_t len, cap;
    bool unmatched;
};

static void list_done(struct list *list)
{
    for (size_t i = 0; i < list->len; i++) {
        instance_free(list->instances[i]);
    }
    free(list->instances);
    free(list->query);
    free(list->filter);
    strv_done(&list->names);
}
SCOPED_VAL(struct list, list_done)

/* --- what is asked for --- */

static int check_conflicts(const struct cmd_flags *flags, struct error *err)
{
    bool format = cmd_flags_given(flags, "format");
    bool yq = cmd_flags_list(flags, "yq")->len > 0;
    bool filter = cmd_flags_list(flags, "filter")->len > 0;
    const char *name = cmd_flags_text(flags, "format");

    if (cmd_flags_bool(flags, "json") && format) {
        return error_set(err, EINVAL, "option --json conflicts with option --format");
    }
    if (cmd_flags_bool(flags, "list-fields") && (format || yq || filter)) {
        return error_set(err, EINVAL,
                         "option --list-fields conflicts with options --format, --yq and --filter");
    }
    if (yq && format && !str_eq(name, "json") && !str_eq(name, "yaml")) {
        return error_set(err, EINVAL, "option --yq only works with --format json or yaml");
    }
    if (cmd_flags_bool(flags, "quiet") &&
        (!str_eq(name, "table") || cmd_flags_bool(flags, "json"))) {
        return error_set(err, EINVAL, "option --quiet can only be used with '--format table'");
    }
    return 0;
}

static char *join_filters(const struct strv *filters)
{
    scoped(strv_done) struct strv parts = STRV_INIT;

    for (size_t i = 0; i < filters->len; i++) {
        strv_addf(&parts, "select(%s)", filters->items[i]);
    }
    return filters->len ? strv_join(&parts, " | ") : NULL;
}

static void read_flags(struct list *list)
{
    const struct cmd_flags *flags = list->ctx->flags;
    const struct strv *queries = cmd_flags_list(flags, "yq");
    const char *format = cmd_flags_text(flags, "format");

    list->filter = join_filters(cmd_flags_list(flags, "filter"));
    list->query = queries->len ? strv_join(queries, " | ") : NULL;
    if (cmd_flags_bool(flags, "quiet")) {
        list->kind = KIND_NAMES;
    } else if (str_eq(format, "json") || cmd_flags_bool(flags, "json")) {
        list->kind = KIND_JSON;
    } else if (str_eq(format, "yaml")) {
        list->kind = KIND_YAML;
    } else if (!str_eq(format, "table")) {
        list->kind = KIND_TEMPLATE;
    } else {
        list->kind = list->query ? KIND_JSON : KIND_TABLE;
    }
}

/* --- collecting --- */

static void warn_unmatched(struct list *list, const char *name)
{
    log_warn("No instance matching %s found.", name);
    list->unmatched = true;
}

static int find_names(struct list *list, struct error *err)
{
    const struct strv *args = list->ctx->args;

    if (args->len == 0) {
        return instance_names(list->ctx->lima_home, &list->names, err);
    }
    for (size_t i = 0; i < args->len; i++) {
        if (instance_exists(list->ctx->lima_home, args->items[i])) {
            strv_add(&list->names, args->items[i]);
        } else {
            warn_unmatched(list, args->items[i]);
        }
    }
    return 0;
}

static int take_one(struct list *list, const char *name, struct instance_opened *opened)
{
    struct instance *inst = opened->inst;

    if (opened->r < 0) {
        scoped(free) char *dir = instance_dir(list->ctx->lima_home, name);

        if (opened->r == -ENOENT && !file_is_dir(dir)) {
            return -ENOENT; /* it vanished meanwhile */
        }
        inst = instance_broken(list->ctx->lima_home, name, error_text(&opened->err));
    }
    opened->inst = NULL;
    array_reserve(list->instances, list->cap, list->len + 1);
    list->instances[list->len++] = inst;
    return 0;
}

/* 1: the instance passes the filter. */
static int passes(const struct list *list, const struct instance *inst, struct error *err)
{
    jv results;
    bool any;
    int r;

    if (!list->filter) {
        return 1;
    }
    r = value_query(instance_record(inst, list->ctx->lima_home), list->filter, &results, err);
    if (r < 0) {
        return error_wrap(err, r, "option --filter");
    }
    any = jv_array_length(results) > 0;
    return any;
}

static int filter_last(struct list *list, struct error *err)
{
    int r = passes(list, list->instances[list->len - 1], err);

    if (r == 0) {
        instance_free(list->instances[--list->len]);
    }
    return r;
}

static void warn_errors(const struct instance *inst)
{
    scoped(free) char *errors = strv_join(&inst->errors, "; ");
    struct log_field fields[] = {{"errors", errors}, {NULL, NULL}};

    if (inst->errors.len > 0) {
        log_fields(LOG_LEVEL_WARN, fields, "instance `%s` has errors", inst->name);
    }
}

static int take_all(struct list *list, struct instance_opened *opened, struct error *err)
{
    for (size_t i = 0; i < list->names.len; i++) {
        int r;

        if (take_one(list, list->names.items[i], &opened[i]) < 0) {
            log_warn("instance `%s` vanished while listing, ignoring it", list->names.items[i]);
            list->unmatched |= list->ctx->args->len > 0;
            continue;
        }
        r = filter_last(list, err);
        if (r < 0) {
            return r;
        }
        if (r > 0 && list->kind != KIND_NAMES) {
            warn_errors(list->instances[list->len - 1]);
        }
    }
    return 0;
}

/* A guest that has much to do takes its time to answer: it is asked only when that can be seen. */
static bool wants_guest(const struct list *list)
{
    const char *format = cmd_flags_text(list->ctx->flags, "format");

    if (list->filter || list->kind == KIND_JSON || list->kind == KIND_YAML) {
        return true;
    }
    return list->kind == KIND_TEMPLATE &&
           (strstr(format, "Guest") || strstr(format, "json") || strstr(format, "yaml"));
}

static int open_all(struct list *list, struct error *err)
{
    scoped(free) struct instance_opened *opened =
        xnew_n(struct instance_opened, list->names.len + 1);
    int r;

    instance_open_all(list->ctx->lima_home, &list->names, wants_guest(list), opened);
    r = take_all(list, opened, err);
    for (size_t i = 0; i < list->names.len; i++) {
        instance_free(opened[i].inst);
        error_done(&opened[i].err);
    }
    return r;
}

/* --- table --- */

/* Which of the columns that may be hidden are shown. */
struct columns {
    bool vm_type, arch, dir;
};

static const char *vm_type_of(const struct instance *inst)
{
    return inst->config ? inst->config->vm_type : "";
}

static const char *arch_of(const struct instance *inst)
{
    return inst->config ? inst->config->arch : "";
}

/* The widths are the reference's: eight columns each is what a narrow terminal gives. */
static struct columns choose_columns(const struct list *list)
{
    struct columns show = {true, true, true};
    int width = term_width();
    int count = 5;
    bool same_type = true, same_arch = true;

    if (!term_stdout_is_tty() || cmd_flags_bool(list->ctx->flags, "all-fields")) {
        return show;
    }
    for (size_t i = 0; i < list->len; i++) {
        same_type &= str_eq(vm_type_of(list->instances[i]), vm_type_of(list->instances[0]));
        same_arch &= str_eq(arch_of(list->instances[i]), sys_arch());
    }
    show.vm_type = (count + 7) * 8 <= width || !same_type;
    count += show.vm_type;
    show.arch = (count + 6) * 8 <= width || !same_arch;
    count += show.arch + 3;
    show.dir = (count + 2) * 8 <= width;
    return show;
}

/* Appends one row: a NULL-terminated list of the cells that are shown. */
static void add_row(struct strv *cells, const struct columns *show, const struct instance *inst)
{
    const struct config *config = inst->config;
    scoped(free) char *memory = size_format(config ? config->memory : 0);
    scoped(free) char *disk = size_format(config ? config->disk : 0);
    scoped(free) char *dir = path_tilde(inst->dir);

    strv_add(cells, inst->name);
    strv_add(cells, instance_status_name(inst->status));
    strv_addf(cells, "%s:%d", config ? "127.0.0.1" : "", config ? inst->ssh_port : 0);
    if (show->vm_type) {
        strv_add(cells, vm_type_of(inst));
    }
    if (show->arch) {
        strv_add(cells, arch_of(inst));
    }
    strv_addf(cells, "%d", config ? config->cpus : 0);
    strv_add(cells, memory);
    strv_add(cells, disk);
    if (show->dir) {
        strv_add(cells, dir);
    }
}

static void print_table(const struct list *list)
{
    struct columns show = choose_columns(list);
    scoped(strv_done) struct strv headers = STRV_INIT;
    scoped(table_free) struct table *table = NULL;

    strv_add_all(&headers, "NAME", "STATUS", "SSH", NULL);
    if (show.vm_type) {
        strv_add(&headers, "VMTYPE");
    }
    if (show.arch) {
        strv_add(&headers, "ARCH");
    }
    strv_add_all(&headers, "CPUS", "MEMORY", "DISK", show.dir ? "DIR" : NULL, NULL);
    table = table_new(strv_argv(&headers));
    for (size_t i = 0; i < list->len; i++) {
        scoped(strv_done) struct strv cells = STRV_INIT;

        add_row(&cells, &show, list->instances[i]);
        table_row(table, strv_argv(&cells));
    }
    table_print(table, stdout);
}

/* --- the other forms --- */

static int put_template(const struct list *list, const struct instance *inst, struct buf *out,
                        struct error *err)
{
    scoped(free) char *text = NULL;
    int r = tmpl_expand(cmd_flags_text(list->ctx->flags, "format"),
                        instance_record_go(inst, list->ctx->lima_home), true, &text, err);

    if (r < 0) {
        return r;
    }
    buf_printf(out, "%s\n", text);
    return 0;
}

static int put_tree(const struct list *list, const struct instance *inst, struct buf *out,
                    struct error *err)
{
    enum cmd_output form = list->kind == KIND_YAML ? CMD_OUTPUT_YAML : CMD_OUTPUT_JSON_LINES;
    jv record = instance_record(inst, list->ctx->lima_home);
    scoped(free) char *query = NULL;

    if (list->kind == KIND_NAMES) {
        query = xasprintf("%s | .name", list->query ? list->query : ".");
        return cmd_output_query(record, query, CMD_OUTPUT_JSON_LINES, out, err);
    }
    return cmd_output_query(record, list->query, form, out, err);
}

static int print(const struct list *list, struct error *err)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    if (list->kind == KIND_TABLE) {
        if (list->len > 0) {
            print_table(list);
        }
        return 0;
    }
    for (size_t i = 0; i < list->len; i++) {
        int r = list->kind == KIND_TEMPLATE ? put_template(list, list->instances[i], &out, err)
                                            : put_tree(list, list->instances[i], &out, err);

        if (r < 0) {
            return r;
        }
    }
    fwrite(buf_str(&out), 1, out.len, stdout);
    return 0;
}

static int print_fields(void)
{
    scoped(strv_done) struct strv fields = STRV_INIT;

    instance_record_fields(&fields);
    for (size_t i = 0; i < fields.len; i++) {
        puts(fields.items[i]);
    }
    return 0;
}

static void print_names(const struct list *list)
{
    for (size_t i = 0; i < list->names.len; i++) {
        puts(list->names.items[i]);
    }
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    scoped(list_done) struct list list = {.ctx = ctx};
    int r = check_conflicts(ctx->flags, err);

    if (r < 0) {
        return r;
    }
    if (cmd_flags_bool(ctx->flags, "list-fields")) {
        return print_fields();
    }
    read_flags(&list);
    r = find_names(&list, err);
    if (r < 0) {
        return r;
    }
    if (list.names.len == 0 && !list.unmatched) {
        log_warn("No instance found. Run `limactl create` to create an instance.");
        return 0;
    }
    if (list.kind == KIND_NAMES && !list.query && !list.filter) {
        print_names(&list);
    } else {
        r = open_all(&list, err);
        if (r == 0) {
            r = print(&list, err);
        }
    }
    if (r == 0 && list.unmatched) {
        return error_set(err, ENOENT, "unmatched instances");
    }
    return r;
}

static const struct cmd_flag flags[] = {
    {"all-fields", 0, CMD_FLAG_BOOL, NULL, "Show all fields"},
    {"filter", 'l', CMD_FLAG_ARRAY, NULL, "Show the instances for which the expression holds"},
    {"format", 'f', CMD_FLAG_STRING, "table",
     "Output format, one of: json, yaml, table, or a Go template"},
    {"json", 0, CMD_FLAG_BOOL, NULL, "Same as --format=json"},
    {"list-fields", 0, CMD_FLAG_BOOL, NULL, "List the fields that --format offers"},
    {"quiet", 'q', CMD_FLAG_BOOL, NULL, "Only show names"},
    {"yq", 0, CMD_FLAG_ARRAY, NULL, "Apply an `expression` to each instance"},
    {0},
};

static const char *const aliases[] = {"ls", NULL};
static const char *const suggest_for[] = {"ps", "status", NULL};

const struct cmd cmd_list = {
    .name = "list",
    .aliases = aliases,
    .suggest_for = suggest_for,
    .group = CMD_GROUP_BASIC,
    .use = "list [INSTANCE]...",
    .brief = "List instances of Lima",
    .help =
        "List instances of Lima.\n"
        "\n"
        "The output can be presented in one of several formats, using the --format <format> flag.\n"
        "\n"
        "  --format json  - Output in JSON format, one object per line\n"
        "  --format yaml  - Output in YAML format, one document per instance\n"
        "  --format table - Output in table format\n"
        "  --format '{{ <go template> }}' - If the format begins and ends with '{{ }}', it is used "
        "as a Go template.\n"
        "\n"
        "Expressions of --yq and --filter are those of jq, applied to the JSON form:\n"
        "  limactl list --filter '.status == \"Running\"' --yq .name",
    .flags = flags,
    .max_args = -1,
    .run = run,
};
