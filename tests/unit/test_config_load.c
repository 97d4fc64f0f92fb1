/* SPDX-License-Identifier: Apache-2.0 */
#include "config_fixture.h"

#include "config/context.h"

static void test_shortest_file_is_an_image(void **state)
{
    scoped(config_free) struct config *config = fixture_config(*state, IMAGE);

    assert_int_equal(config->image_count, 1);
    assert_string_equal(config->images[0].file.location, "/img");
    assert_false(config->images[0].has_kernel);
    assert_string_equal(config->instance, "box");
    assert_string_equal(config->vm_type, "qemu");
    assert_int_equal(((struct fixture *)*state)->warnings.len, 0);
}

static void test_every_honoured_key_arrives(void **state)
{
    scoped(free) char *text = fixture_golden("config_full.yaml");
    scoped(config_free) struct config *config = fixture_config(*state, text);
    const struct config_image *image = &config->images[0];
    const struct config_port_forward *rule = &config->port_forwards[0];

    assert_string_equal(config->arch, "x86_64");
    assert_int_equal(config->cpus, 3);
    assert_int_equal(config->memory, 1610612736);
    assert_int_equal(config->disk, 21474836480);
    assert_string_equal(config->cpu_type, "Haswell,-avx2");
    assert_string_equal(image->file.location, "image:debian-12");
    assert_string_equal(image->file.arch, "x86_64");
    assert_string_equal(image->variant, "minimal");
    assert_string_equal(image->arch_variant, "v2");
    assert_true(image->has_kernel);
    assert_string_equal(image->kernel.location, "/boot/vmlinuz");
    assert_string_equal(image->kernel_cmdline, "root=/dev/vda1");
    assert_true(image->has_initrd);
    assert_string_equal(image->initrd.location, "/boot/initrd");
    assert_string_equal(image->initrd.digest, "");
    assert_int_equal(config->ssh.local_port, 60099);
    assert_true(config->ssh.load_dot_ssh_pub_keys);
    assert_true(config->ssh.forward_agent);
    assert_true(config->ssh.forward_x11);
    assert_true(config->ssh.forward_x11_trusted);
    assert_int_equal(config->port_forward_count, 3);
    assert_int_equal(rule->guest_first, 8080);
    assert_int_equal(rule->host_first, 18080);
    assert_int_equal(rule->proto, CONFIG_PROTO_TCP);
    assert_int_equal(config->provision_count, 3);
    assert_int_equal(config->provision[2].mode, CONFIG_PROVISION_BOOT);
    assert_string_equal(config->provision[1].script, "#!/bin/bash\necho builder 1.5\n");
    assert_int_equal(config->probe_count, 1);
    assert_string_equal(config->probes[0].hint, "look at the log");
    assert_int_equal(config->env.len, 2);
    assert_string_equal(config->env.items[0].key, "EMPTY");
    assert_string_equal(config->env.items[0].value, "");
    assert_string_equal(config->env.items[1].value, "C.UTF-8");
    assert_string_equal(config->param.items[0].value, "1.5");
    assert_string_equal(config->user.name, "builder");
    assert_string_equal(config->user.comment, "Bob the Builder");
    assert_string_equal(config->user.home, "/home/builder.vm");
    assert_string_equal(config->user.shell, "/bin/zsh");
    assert_int_equal(config->user.uid, 1234);
    assert_true(config->user.passwordless_sudo);
    assert_string_equal(config->message, "Have {{.Name}} fun.\n");
    assert_string_equal(config->timezone, "Europe/Berlin");
    assert_string_equal(config->video_display, "gtk");
    assert_true(config->legacy_bios);
    assert_false(config->plain);
    assert_true(config->upgrade_packages);
    assert_false(config->host_resolver.enabled);
    assert_true(config->host_resolver.ipv6);
    assert_int_equal(config->host_resolver.hosts.len, 1);
    assert_string_equal(config->guest_install_prefix, "/opt");
    assert_string_equal(config->minimum_lima_version, "1.0.0");
}

/* Each of these, put before IMAGE, fails with these words. */
static void test_wrong_values_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"cpus: many\n",
         "lima.yaml:1:7: 'cpus' must be an integer from 1 to 4096, not the text 'many'"},
        {"cpus: -1\n", "'cpus' must be an integer from 1 to 4096, not -1"},
        {"cpus: [1]\n", "'cpus' must be an integer from 1 to 4096, not a list"},
        {"plain: yes\n", "'plain' must be true or false, not the text 'yes'"},
        {"plain: 1\n", "'plain' must be true or false, not 1"},
        {"\n\nssh:\n  localPort: 22\n", "lima.yaml:4:14: 'ssh.localPort' must be a port"},
        {"ssh: {localPort: 65536}\n", "must be a port from 1 to 65535"},
        {"ssh: {localPort: -1}\n", "must be a port from 1 to 65535"},
        {"ssh: [a]\n", "'ssh' must be a map, not a list"},
        {"arch: vax\n", "must be 'x86_64', 'aarch64', 'armv7l', 'ppc64le', 'riscv64' or 's390x'"},
        {"vmType: bochs\n", "'vmType' must be 'qemu', 'vz' or 'wsl2', not 'bochs'"},
        {"os: BeOS\n", "'os' must be 'Linux'"},
        {"os: Windows\n", "only guest that works"},
        {"memory: lots\n", "'memory' must be a size such as '4GiB', not 'lots'"},
        {"memory: 4\n", "'memory' must be 1MiB or more, not '4'"},
        {"memory: {}\n", "'memory' must be text, not a map"},
        {"disk: 0\n", "'disk' must be 1MiB or more"},
        {"disk: -1GiB\n", "'disk' must be a size"},
        {"env: [A=B]\n", "'env' must be a map, not a list"},
        {"env: {A: [1]}\n", "'env.A' must be text, not a list"},
        {"env: {'A B': 1}\n", "'env.A B' name must have no blanks"},
        {"env: {A: \"1\\n2\"}\n", "'env.A' value must be one line"},
        {"env: {A: \"1\\0002\"}\n", "cannot hold a NUL"},
        {"env: {A: !!binary /w==}\n", "must be text in UTF-8"},
        {"user: {name: root}\n", "'user.name' must be a user of its own, not 'root'"},
        {"user: {name: 'a b'}\n", "'user.name' must be a user name"},
        {"user: {uid: 0}\n", "'user.uid' must be an integer from 1 to"},
        {"user: {uid: 4294967295}\n", "'user.uid' must be an integer from 1 to"},
        {"user: {shell: bash}\n", "'user.shell' must be an absolute path"},
        {"user: {home: here}\n",
         "lima.yaml:1:14: 'user.home' must be an absolute path, not 'here'"},
        {"user: {comment: 'a:b'}\n", "'user.comment' must be printable"},
        {"timezone: ../../etc/passwd\n", "'timezone' must be a zone"},
        {"guestInstallPrefix: usr\n", "'guestInstallPrefix' must be an absolute path"},
        {"minimumLimaVersion: 2.0\n", "'minimumLimaVersion' must be a version such as '1.0.0'"},
        {"minimumLimaVersion: 99.0.0\n", "asks for 99.0.0"},
        {"vmOpts: {qemu: {cpuType: {vax: max}}}\n", "has a key that is not 'x86_64'"},
        {"provision: {}\n", "'provision' must be a list, not a map"},
        {"provision: [text]\n", "'provision[0]' must be a map, not the text 'text'"},
        {"provision: [null]\n", "'provision[0]' must be a map, not null"},
        {"provision: [{mode: later, script: x}]\n", "'provision[0].mode' must be 'system', 'user'"},
        {"mounts: {location: x}\n", "'mounts' must be a list"},
        {"mounts: [{writable: maybe}]\n", "'mounts[0].writable' must be true or false"},
        {"dns: [nowhere]\n", "'dns[0]' must be an IPv4 or IPv6 address"},
        {"dns: [1.1.1.1]\n", "'dns' must be empty unless 'hostResolver.enabled' is false"},
        {"hostResolver: {hosts: {'a b': 1.1.1.1}}\n", "'hostResolver.hosts.a b' name must be a"},
        {"hostResolver: {hosts: {a..b: 1.1.1.1}}\n", "name must be a host name"},
        {"hostResolver: {hosts: {a: ''}}\n", "value must be an IP address or a host name"},
        {"hostResolver: {hosts: {a: 'b c'}}\n", "value must be an IP address or a host name"},
        {"portForwards: [{guestIP: localhost}]\n", "'portForwards[0].guestIP' must be an IPv4 or"},
        {"portForwards: [{guestPortRange: [1, 2, 3]}]\n", "must be a list of two ports"},
        {"portForwards: [{guestPortRange: [1]}]\n", "must be a list of two ports"},
        {"portForwards: [{guestPortRange: [1, 65536]}]\n", "must be an integer from 0 to 65535"},
        {"portForwards: [{proto: icmp}]\n", "must be 'any', 'tcp' or 'udp', not 'icmp'"},
        {"- a\n- b\n", "a configuration must be a map, not a list"},
        {"just text\n", "a configuration must be a map, not the text 'just text'"},
        {"cpus: 1\ncpus: 2\n", "lima.yaml:2:1"},
        {"a: [\n", "lima.yaml:"},
        {"\tcpus: 1\n", "lima.yaml:1:"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct config *config = NULL;
        bool map = cases[i].text[0] != '-' && strncmp(cases[i].text, "just", 4) != 0 &&
                   cases[i].text[0] != '\t';
        scoped(free) char *text = xasprintf("%s%s", cases[i].text, map ? IMAGE : "");

        assert_fails(fixture_load(*state, text, &config, &err), &err, EINVAL, cases[i].part);
        assert_null(config);
    }
}

static void test_all_problems_are_told_at_once(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct config *config;

    assert_int_equal(fixture_load(*state, "cpus: x\nplain: 1\nimages: []\nprobes: [{script: a}]\n",
                                  &config, &err),
                     -EINVAL);
    assert_non_null(strstr(error_text(&err), "lima.yaml:1:7: 'cpus'"));
    assert_non_null(strstr(error_text(&err), "\nlima.yaml:2:8: 'plain'"));
    assert_non_null(strstr(error_text(&err), "\nlima.yaml:3:9: 'images' must have"));
    assert_non_null(strstr(error_text(&err), "\nlima.yaml:4:10: 'probes[0].script' must begin"));
}

static void test_a_flood_of_problems_is_cut(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf text = BUF_INIT;
    struct config *config;

    buf_puts(&text, "arch: ");
    for (size_t i = 0; i < 10000; i++) {
        buf_puts(&text, "x");
    }
    buf_puts(&text, "\nprobes:\n");
    for (size_t i = 0; i < 1000; i++) {
        buf_puts(&text, "- {a: b}\n");
    }
    buf_puts(&text, IMAGE);
    assert_fails(fixture_load(*state, buf_str(&text), &config, &err), &err, EINVAL,
                 "\nand 951 more");
    assert_int_equal(((struct fixture *)*state)->warnings.len, 50);
}

static void test_scalars_become_what_the_field_wants(void **state)
{
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "cpus: '3'\nmemory: 1073741824\nssh: {localPort: 8080.9}\n"
                      "env: {a: 644, b: 0644, c: 0x10, d: 1.50, e: 2.0, f: True, g: ~, h: '007',"
                      " i: 2.0.0, j: 08, k: 1e3, l: 0b11}\n");
    static const char *const want[] = {"644", "420", "16",    "1.5", "2",   "true",
                                       "",    "007", "2.0.0", "08",  "1e3", "3"};

    assert_int_equal(config->cpus, 3);
    assert_int_equal(config->memory, 1073741824);
    assert_int_equal(config->ssh.local_port, 8080);
    assert_int_equal(config->env.len, ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_string_equal(config->env.items[i].value, want[i]);
    }
}

static void test_null_and_words_for_default_mean_unset(void **state)
{
    scoped(config_free) struct config *config = fixture_config(
        *state, IMAGE "cpus: 0\nmemory: ''\ndisk: ~\narch: default\nos: ''\nvideo: {display: ''}\n"
                      "ssh:\nprovision:\nvmType: null\nportForwards: [{proto: ''}]\n");

    assert_in_range(config->cpus, 1, 4);
    assert_true(config->memory > 0);
    assert_int_equal(config->disk, 107374182400);
    assert_true(*config->arch);
    assert_string_equal(config->os, "Linux");
    assert_string_equal(config->video_display, "none");
    assert_int_equal(config->provision_count, 0);
    assert_int_equal(config->port_forwards[0].proto, CONFIG_PROTO_ANY);
    assert_int_equal(((struct fixture *)*state)->warnings.len, 0);
}

static void test_unknown_keys_warn_with_place_and_suggestion(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"cpuz: 3\n", "lima.yaml:2:1: unknown key 'cpuz' (did you mean 'cpus'?), ignoring"},
        {"network: []\n", "unknown key 'network' (did you mean 'networks'?), ignoring"},
        {"ssh:\n  localport: 1\n", "lima.yaml:3:3: unknown key 'ssh.localport' (did you mean "
                                   "'localPort'?), ignoring"},
        {"xyzzy: 1\n", "unknown key 'xyzzy', ignoring"},
        {"'@': 1\n", "unknown key '@', ignoring"},
        {"portForwards: [{'@': 1}]\n", "unknown key 'portForwards[0].@', ignoring"},
        {"mounts: [{location: /srv, loc: 1}]\n", "unknown key 'mounts[0].loc'"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = xasprintf("%s%s", IMAGE, cases[i].text);

        config_free(fixture_config(*state, text));
        assert_true(fixture_warned(*state, cases[i].part));
    }
}

static void test_keys_of_later_warn_only_with_an_effect(void **state)
{
    static const struct {
        const char *text;
        const char *key; /* NULL: silent */
    } cases[] = {
        {"mounts: []\n", NULL},
        {"mounts: [{location: ~/x}]\n", NULL},
        {"mountType: 9p\n", NULL},
        {"mountInotify: false\n", NULL},
        {"mountInotify: true\n", NULL},
        {"mountTypesUnsupported: [9p]\n", NULL},
        {"containerd: {system: false, user: false}\n", NULL},
        {"containerd: {user: true}\n", "'containerd.user'"},
        {"tpm: false\n", NULL},
        {"tpm: true\n", "'tpm'"},
        {"hostResolver: {enabled: false}\n", NULL},
        {"hostResolver: {enabled: true, ipv6: true, hosts: {a: b, c.d: '::1'}}\n", NULL},
        {"additionalDisks: [data, {name: more, fsArgs: [-m, x]}]\n", "'additionalDisks'"},
        {"networks: [{lima: shared}]\n", "'networks'"},
        {"dns: [1.1.1.1]\nhostResolver: {enabled: false}\n", NULL},
        {"caCerts: {files: [a]}\n", "'caCerts.files'"},
        {"copyToHost: [{guest: /a, host: /b}]\n", "'copyToHost'"},
        {"audio: {device: none}\n", NULL},
        {"audio: {device: default}\n", "'audio.device'"},
        {"vmOpts: {vz: {rosetta: {enabled: true}}}\n", NULL},
        {"vmOpts: {qemu: {minimumVersion: 8.2.0}}\n", "'vmOpts.qemu.minimumVersion'"},
        {"firmware: {images: [{location: /x}]}\n", "'firmware.images'"},
        {"propagateProxyEnv: false\n", NULL},
        {"ssh: {overVsock: true}\n", "'ssh.overVsock'"},
        {"provision: [{mode: data, path: /x, content: y}]\n", "'provision[0].mode' data"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct fixture *fixture = *state;
        scoped(free) char *text = xasprintf("%s%s", IMAGE, cases[i].text);
        scoped(config_free) struct config *config = fixture_config(*state, text);

        assert_int_equal(fixture->warnings.len, cases[i].key ? 1 : 0);
        if (cases[i].key) {
            assert_true(fixture_warned(fixture, cases[i].key));
            assert_true(fixture_warned(fixture, "is not yet honoured, ignoring"));
        }
        assert_int_equal(config->provision_count, 0);
    }
}

static void test_a_key_of_later_warns_once_in_all_layers(void **state)
{
    const struct fixture *fixture = *state;
    scoped(config_free) struct config *config = NULL;

    fixture_layer(*state, "default.yaml", "tpm: true\n");
    config = fixture_config(*state, IMAGE "tpm: true\n");
    fixture_layer(*state, "default.yaml", NULL);
    assert_int_equal(fixture->warnings.len, 1);
}

static void test_deprecated_keys_name_their_successor(void **state)
{
    scoped(config_free) struct config *config =
        fixture_config(*state, IMAGE "arch: x86_64\ncpuType: {x86_64: max}\nrosetta: {}\n");

    assert_string_equal(config->cpu_type, "max");
    assert_true(fixture_warned(*state, "'cpuType' is deprecated, use 'vmOpts.qemu.cpuType'"));
    assert_true(fixture_warned(*state, "'rosetta' is deprecated, use 'vmOpts.vz.rosetta'"));

    config_free(config);
    config = fixture_config(*state, IMAGE "arch: x86_64\ncpuType: {x86_64: max}\n"
                                          "vmOpts: {qemu: {cpuType: {x86_64: host}}}\n");
    assert_string_equal(config->cpu_type, "host");
    assert_true(fixture_warned(*state, "differs from"));
}

static void test_shipped_templates_load_without_a_word(void **state)
{
    static const char *const names[] = {"default.yaml", "debian-12.yaml", "debian-13.yaml"};
    const struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        scoped(free) char *text = fixture_source("templates", names[i]);
        scoped(config_free) struct config *config = fixture_config(*state, text);

        assert_true(config->image_count > 0);
        assert_int_equal(fixture->warnings.len, 0);
    }
}

static void test_missing_file_is_enoent(void **state)
{
    const struct config_load_options options = {.lima_home = "/nowhere", .instance = "box"};
    scoped(error_done) struct error err = ERROR_INIT;
    struct config *config;

    assert_fails(config_load("/nowhere/box/lima.yaml", &options, &config, &err), &err, ENOENT,
                 "/nowhere/box/lima.yaml");
}

static void test_file_larger_than_the_limit_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    const struct config_load_options options = {.lima_home = fixture->home, .instance = "box"};
    scoped(free) char *path = path_join(fixture->home, "big.yaml");
    scoped(free) char *text = xmalloc(CONFIG_MAX_BYTES + 2);
    scoped(error_done) struct error err = ERROR_INIT;
    struct config *config;

    memset(text, '\n', CONFIG_MAX_BYTES + 1);
    text[CONFIG_MAX_BYTES + 1] = '\0';
    assert_works(file_write_text(path, text, 0600, &err), &err);
    assert_fails(config_load(path, &options, &config, &err), &err, EFBIG, "big.yaml");
}

static void test_hostname_has_only_dashes(void **state)
{
    scoped(free) char *name = config_hostname("my_example.com");

    assert_string_equal(name, "lima-my-example-com");
}

/* A load may fail or warn; it must give a configuration or an error, and nothing else. */
static void load_broken(struct fixture *fixture, const char *text)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(config_free) struct config *config = NULL;
    int r = fixture_load(fixture, text, &config, &err);

    assert_true((r == 0) == (config != NULL));
    assert_true((r < 0) == (err.message != NULL));
}

static void test_samples_cut_anywhere_do_no_harm(void **state)
{
    scoped(free) char *text = fixture_golden("config_full.yaml");

    for (size_t len = strlen(text); len-- > 0;) {
        text[len] = '\0';
        load_broken(*state, text);
    }
}

static void test_samples_broken_anywhere_do_no_harm(void **state)
{
    static const char hostile[] = {'\n', ':', '-', '[', '}', '&', '\'', '\x01', '\xff', '9'};
    scoped(free) char *text = fixture_golden("config_full.yaml");

    for (size_t i = 0; text[i]; i++) {
        char kept = text[i];

        text[i] = hostile[i % ARRAY_LEN(hostile)];
        load_broken(*state, text);
        text[i] = hostile[(i / ARRAY_LEN(hostile)) % ARRAY_LEN(hostile)];
        load_broken(*state, text);
        text[i] = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shortest_file_is_an_image),
        cmocka_unit_test(test_every_honoured_key_arrives),
        cmocka_unit_test(test_wrong_values_are_refused_with_their_place),
        cmocka_unit_test(test_all_problems_are_told_at_once),
        cmocka_unit_test(test_a_flood_of_problems_is_cut),
        cmocka_unit_test(test_scalars_become_what_the_field_wants),
        cmocka_unit_test(test_null_and_words_for_default_mean_unset),
        cmocka_unit_test(test_unknown_keys_warn_with_place_and_suggestion),
        cmocka_unit_test(test_keys_of_later_warn_only_with_an_effect),
        cmocka_unit_test(test_a_key_of_later_warns_once_in_all_layers),
        cmocka_unit_test(test_deprecated_keys_name_their_successor),
        cmocka_unit_test(test_shipped_templates_load_without_a_word),
        cmocka_unit_test(test_missing_file_is_enoent),
        cmocka_unit_test(test_file_larger_than_the_limit_is_refused),
        cmocka_unit_test(test_hostname_has_only_dashes),
        cmocka_unit_test(test_samples_cut_anywhere_do_no_harm),
        cmocka_unit_test(test_samples_broken_anywhere_do_no_harm),
    };

    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
