/* SPDX-License-Identifier: Apache-2.0 */
#include "cidata/cidata.h"

#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "cidata/documents.h"
#include "cidata/iso.h"
#include "cidata/vars.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/mac.h"
#include "util/file.h"
#include "util/path.h"

#define LABEL     "cidata"
#define BASE_MAX  (1u << 20)  /* bytes of a file of cloud-init/ */
#define AGENT_MAX (16u << 20) /* bytes of the guest agent */
#define TEXT_MODE 0600
#define EXEC_MODE 0700

static const char *const provision_folders[] = {
    [CONFIG_PROVISION_SYSTEM] = "provision.system",
    [CONFIG_PROVISION_USER] = "provision.user",
    [CONFIG_PROVISION_BOOT] = "provision.boot",
};

/* What cloud-init reads, rendered. */
struct documents {
    struct buf user_data, network_config;
    char *hostname;
    char *instance_id;
};

static void documents_done(struct documents *docs)
{
    buf_done(&docs->user_data);
    buf_done(&docs->network_config);
    free(docs->hostname);
    free(docs->instance_id);
}
SCOPED_VAL(struct documents, documents_done)

static int share_read(const char *name, struct buf *ret, char **ret_path, struct error *err)
{
    scoped(free) char *path = path_share(name);
    int r = file_read(path, BASE_MAX, ret, err);

    if (r == 0 && ret_path) {
        *ret_path = steal(path);
    }
    return r;
}

static int documents_make(const struct cidata_options *options, struct documents *ret,
                          struct error *err)
{
    const struct config *config = options->config;
    scoped(buf_done) struct buf base = BUF_INIT;
    scoped(free) char *path = NULL;
    scoped(free) char *mac = instance_mac(options->dir);
    int r;

    r = share_read(config->plain ? "cloud-init/plain.yaml" : "cloud-init/user-data.yaml", &base,
                   &path, err);
    if (r < 0) {
        return r;
    }
    r = documents_user_data(config, options->ssh_keys, path, buf_str(&base), &ret->user_data, err);
    if (r < 0) {
        return r;
    }
    documents_network_config(mac, &config->dns, &ret->network_config);
    ret->hostname = instance_hostname(config->instance);
    ret->instance_id =
        documents_instance_id(buf_str(&ret->user_data), buf_str(&ret->network_config));
    return 0;
}

static int add_text(struct iso *iso, const char *path, const char *text, struct error *err)
{
    return iso_add(iso, path, TEXT_MODE, text, strlen(text), err);
}

static int add_documents(struct iso *iso, const struct documents *docs, struct error *err)
{
    scoped(buf_done) struct buf meta = BUF_INIT;
    int r;

    documents_meta_data(docs->instance_id, docs->hostname, &meta);
    if ((r = add_text(iso, "user-data", buf_str(&docs->user_data), err)) < 0 ||
        (r = add_text(iso, "meta-data", buf_str(&meta), err)) < 0) {
        return r;
    }
    return add_text(iso, "network-config", buf_str(&docs->network_config), err);
}

static int add_vars(struct iso *iso, const struct cidata_options *options,
                    const struct documents *docs, struct error *err)
{
    const struct vars_facts facts = {
        .config = options->config,
        .instance_id = docs->instance_id,
        .hostname = docs->hostname,
        .debug = log_get_level() <= LOG_LEVEL_DEBUG,
    };
    scoped(buf_done) struct buf lima = BUF_INIT;
    scoped(buf_done) struct buf param = BUF_INIT;
    scoped(buf_done) struct buf env = BUF_INIT;
    scoped(free) char *keys = strv_join(options->ssh_keys, "\n");
    scoped(free) char *key_lines = xasprintf("%s\n", keys);
    int r;

    if ((r = vars_lima_env(&facts, &lima, err)) < 0 ||
        (r = vars_param_env(&options->config->param, &param, err)) < 0 ||
        (r = vars_etc_environment(&options->config->env, &env, err)) < 0 ||
        (r = add_text(iso, "lima.env", buf_str(&lima), err)) < 0 ||
        (r = add_text(iso, "param.env", buf_str(&param), err)) < 0 ||
        (r = add_text(iso, "etc_environment", buf_str(&env), err)) < 0) {
        return r;
    }
    return add_text(iso, "ssh_authorized_keys", key_lines, err);
}

static int add_provision(struct iso *iso, const struct config *config, struct error *err)
{
    for (size_t i = 0; i < config->provision_count; i++) {
        const struct config_provision *p = &config->provision[i];
        scoped(free) char *path = xasprintf("%s/%08zu", provision_folders[p->mode], i);
        int r = iso_add(iso, path, EXEC_MODE, p->script, strlen(p->script), err);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int add_probes(struct iso *iso, const struct config *config, struct error *err)
{
    for (size_t i = 0; i < config->probe_count; i++) {
        const struct config_probe *probe = &config->probes[i];
        scoped(free) char *script = xasprintf("probes/%08zu", i);
        scoped(free) char *description = xasprintf("%s.description", script);
        scoped(free) char *hint = xasprintf("%s.hint", script);
        int r;

        if ((r = iso_add(iso, script, EXEC_MODE, probe->script, strlen(probe->script), err)) < 0 ||
            (r = add_text(iso, description, probe->description, err)) < 0 ||
            (r = add_text(iso, hint, probe->hint, err)) < 0) {
            return r;
        }
    }
    return 0;
}

/* The agent, or in plain mode the script that stands in for it. */
static int add_runner(struct iso *iso, const struct cidata_options *options, struct error *err)
{
    scoped(buf_done) struct buf data = BUF_INIT;
    int r;

    if (options->config->plain) {
        r = share_read("cloud-init/plain.sh", &data, NULL, err);
        return r < 0 ? r : iso_add(iso, "plain.sh", EXEC_MODE, data.data, data.len, err);
    }
    r = file_read(options->guestagent, AGENT_MAX, &data, err);
    if (r < 0) {
        return error_wrap(err, r, "reading the guest agent");
    }
    return iso_add(iso, "lima-guestagent", 0755, data.data, data.len, err);
}

static int write_image(const struct cidata_options *options, const struct documents *docs,
                       struct error *err)
{
    scoped(iso_free) struct iso *iso = NULL;
    scoped(buf_done) struct buf image = BUF_INIT;
    scoped(free) char *path = path_join(options->dir, LAYOUT_CIDATA);
    int r;

    if ((r = iso_new(LABEL, &iso, err)) < 0 || (r = add_documents(iso, docs, err)) < 0 ||
        (r = add_vars(iso, options, docs, err)) < 0 ||
        (r = add_provision(iso, options->config, err)) < 0 ||
        (r = add_probes(iso, options->config, err)) < 0 ||
        (r = add_runner(iso, options, err)) < 0 || (r = iso_finish(iso, &image, err)) < 0) {
        return r;
    }
    return file_write(path, image.data, image.len, 0600, err);
}

int cidata_write(const struct cidata_options *options, char **ret_instance_id, struct error *err)
{
    scoped(documents_done) struct documents docs = {0};
    scoped(free) char *copy = path_join(options->dir, LAYOUT_CLOUD_CONFIG);
    int r;

    if ((r = documents_make(options, &docs, err)) < 0 ||
        (r = write_image(options, &docs, err)) < 0 ||
        (r = file_write_text(copy, buf_str(&docs.user_data), 0444, err)) < 0) {
        return r;
    }
    *ret_instance_id = steal(docs.instance_id);
    return 0;
}
