/* SPDX-License-Identifier: Apache-2.0 */
#include "cidata/documents.h"

#include <string.h>
#include "base/alloc.h"
#include "cidata/vars.h"
#include "util/digest.h"
#include "util/value.h"
#include "util/yaml.h"

#define INSTANCE_ID_DIGITS 20
#define ETH0_METRIC        200

static void set_string(jv *object, const char *key, const char *value)
{
    *object = jv_object_set(*object, jv_string(key), jv_string(value));
}

static void set(jv *object, const char *key, jv take_value)
{
    *object = jv_object_set(*object, jv_string(key), take_value);
}

/* Bytes that are UTF-8 and hold no control characters; everything else would be changed on its way.
 */
static bool is_clean(const char *text)
{
    jv value = jv_string(text);
    bool same = strcmp(jv_string_value(value), text) == 0;

    jv_free(value);
    for (const unsigned char *p = (const unsigned char *)text; same && *p; p++) {
        same = *p >= 0x20 && *p != 0x7f && !(*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0);
    }
    return same;
}

static int check_user(const struct config *config, const struct strv *ssh_keys, struct error *err)
{
    const struct config_user *user = &config->user;
    const struct {
        const char *key, *value;
    } fields[] = {
        {"user.name", user->name},
        {"user.home", user->home},
        {"user.shell", user->shell},
        {"timezone", config->timezone},
    };

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (!is_clean(fields[i].value)) {
            return error_set(err, EINVAL, "'%s': has a control character or is not UTF-8",
                             fields[i].key);
        }
    }
    if (!*user->name || strpbrk(user->name, ":, /") || strcmp(user->name, "root") == 0) {
        return error_set(err, EINVAL, "'user.name': '%s' cannot be the guest's user", user->name);
    }
    if (user->uid == 0) {
        return error_set(err, EINVAL, "'user.uid': 0 is root's");
    }
    if (user->home[0] != '/' || user->shell[0] != '/' || strpbrk(user->home, ":") ||
        strpbrk(user->shell, ":")) {
        return error_set(err, EINVAL, "'user.home' and 'user.shell' have to be absolute paths");
    }
    if (ssh_keys->len == 0) {
        return error_set(err, EINVAL, "there is no ssh key that could be authorised");
    }
    return 0;
}

static jv text_list(const struct strv *texts)
{
    jv list = jv_array();

    for (size_t i = 0; i < texts->len; i++) {
        list = jv_array_append(list, jv_string(texts->items[i]));
    }
    return list;
}

static jv user_tree(const struct config_user *user, const struct strv *ssh_keys)
{
    scoped(free) char *gecos = vars_gecos(user->comment);
    jv tree = jv_object();

    set_string(&tree, "name", user->name);
    set(&tree, "uid", jv_number(user->uid));
    if (*gecos) {
        set_string(&tree, "gecos", gecos);
    }
    set_string(&tree, "homedir", user->home);
    set_string(&tree, "shell", user->shell);
    set_string(&tree, "sudo", user->passwordless_sudo ? "ALL=(ALL) NOPASSWD:ALL" : "ALL=(ALL) ALL");
    set(&tree, "lock_passwd", user->passwordless_sudo ? jv_true() : jv_false());
    set(&tree, "ssh_authorized_keys", text_list(ssh_keys));
    return tree;
}

/* Adds a module to a list of the base, unless the base leaves the list to the image. */
static void add_module(jv *tree, const char *list, const char *module)
{
    jv modules = jv_object_get(jv_copy(*tree), jv_string(list));

    if (jv_get_kind(modules) == JV_KIND_ARRAY) {
        set(tree, list, jv_array_append(modules, jv_string(module)));
    } else {
        jv_free(modules);
    }
}

static void set_upgrade(jv *tree)
{
    static const char *const keys[] = {"package_update", "package_upgrade",
                                       "package_reboot_if_required"};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        set(tree, keys[i], jv_true());
    }
    add_module(tree, "cloud_final_modules", "package_update_upgrade_install");
}

int documents_user_data(const struct config *config, const struct strv *ssh_keys, const char *name,
                        const char *base, struct buf *out, struct error *err)
{
    jv tree;
    int r;

    if ((r = check_user(config, ssh_keys, err)) < 0 ||
        (r = yaml_load(name, base, strlen(base), &tree, NULL, err)) < 0) {
        return r;
    }
    if (jv_get_kind(tree) != JV_KIND_OBJECT) {
        jv_free(tree);
        return error_set(err, EINVAL, "'%s' is not a map", name);
    }
    set(&tree, "users", jv_array_append(jv_array(), user_tree(&config->user, ssh_keys)));
    if (*config->timezone) {
        set_string(&tree, "timezone", config->timezone);
    }
    if (config->upgrade_packages) {
        set_upgrade(&tree);
    }
    buf_puts(out, "#cloud-config\n");
    yaml_dump(tree, out);
    return 0;
}

void documents_meta_data(const char *instance_id, const char *hostname, struct buf *out)
{
    jv tree = jv_object();

    set_string(&tree, "instance-id", instance_id);
    set_string(&tree, "local-hostname", hostname);
    yaml_dump(tree, out);
}

void documents_network_config(const char *mac, const struct strv *dns, struct buf *out)
{
    jv match = jv_object(), overrides = jv_object(), eth0 = jv_object();
    jv ethernets = jv_object(), tree = jv_object();

    set_string(&match, "macaddress", mac);
    set(&overrides, "route-metric", jv_number(ETH0_METRIC));
    set(&eth0, "match", match);
    set_string(&eth0, "set-name", "eth0");
    set(&eth0, "dhcp4", jv_true());
    set_string(&eth0, "dhcp-identifier", "mac");
    if (dns->len) {
        set(&overrides, "use-dns", jv_false());
        set(&eth0, "nameservers", JV_OBJECT(jv_string("addresses"), text_list(dns)));
    }
    set(&eth0, "dhcp4-overrides", overrides);
    set(&ethernets, "eth0", eth0);
    set(&tree, "version", jv_number(2));
    set(&tree, "ethernets", ethernets);
    yaml_dump(tree, out);
}

char *documents_instance_id(const char *user_data, const char *network_config)
{
    scoped(buf_done) struct buf both = BUF_INIT;
    scoped(free) char *hex = NULL;

    buf_put(&both, user_data, strlen(user_data) + 1); /* the zero byte keeps them apart */
    buf_puts(&both, network_config);
    hex = digest_sha256_hex(both.data, both.len);
    return xasprintf("iid-%.*s", INSTANCE_ID_DIGITS, hex);
}
