/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "driver/qemu/qmp_wire.h"

static const char greeting[] = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, "
                               "\"major\": 7}, \"package\": \"\"}, "
                               "\"capabilities\": [\"oob\"]}}\r\n";
static const char session[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n"
    "{\"return\": {}, \"id\": 1}\r\n"
    "\r\n"
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"VSERPORT_CHANGE\", "
    "\"data\": {\"id\": \"agent0\", \"open\": true}}\r\n"
    "{\"id\": 7, \"error\": {\"class\": \"GenericError\", \"desc\": \"no \\u00fc\"}}\r\n"
    "{\"event\": \"RESUME\"}\n"
    "{\"return\": [1, 2], \"id\": 9007199254740992}\r\n";

/* A message as one comparable line. */
static char *describe(const struct qmp_message *m)
{
    jv data = jv_is_valid(m->data) ? jv_copy(m->data) : jv_null();
    jv text = jv_dump_string(data, 0);
    char *line = xasprintf("%d %llu %s %s", (int)m->kind, (unsigned long long)m->id,
                           m->text ? m->text : "-", jv_string_value(text));

    jv_free(text);
    return line;
}

static void append_all(struct qmp_wire *wire, struct buf *out)
{
    for (;;) {
        struct qmp_message message = QMP_MESSAGE_INIT;
        int r = qmp_wire_next(wire, &message, NULL);
        char *line;

        assert_true(r >= 0);
        if (r == 0) {
            return;
        }
        line = describe(&message);
        buf_printf(out, "%s\n", line);
        free(line);
        qmp_message_done(&message);
    }
}

static const char session_messages[] = "0 0 - {\"qemu\":{\"major\":7}}\n"
                                       "1 1 - {}\n"
                                       "3 0 VSERPORT_CHANGE {\"id\":\"agent0\",\"open\":true}\n"
                                       "2 7 no \xc3\xbc null\n"
                                       "3 0 RESUME {}\n"
                                       "1 9007199254740992 - [1,2]\n";

static void test_wire_reads_a_session_cut_anywhere(void **state)
{
    for (size_t cut = 0; cut <= strlen(session); cut++) {
        scoped(qmp_wire_done) struct qmp_wire wire;
        scoped(buf_done) struct buf out = BUF_INIT;

        qmp_wire_init(&wire);
        assert_int_equal(qmp_wire_feed(&wire, session, cut, NULL), 0);
        append_all(&wire, &out);
        assert_int_equal(qmp_wire_feed(&wire, session + cut, strlen(session) - cut, NULL), 0);
        append_all(&wire, &out);
        assert_string_equal(buf_str(&out), session_messages);
    }
}

static void test_wire_reads_a_session_byte_by_byte(void **state)
{
    scoped(qmp_wire_done) struct qmp_wire wire;
    scoped(buf_done) struct buf out = BUF_INIT;

    qmp_wire_init(&wire);
    for (const char *at = session; *at; at++) {
        assert_int_equal(qmp_wire_feed(&wire, at, 1, NULL), 0);
        append_all(&wire, &out);
    }
    assert_string_equal(buf_str(&out), session_messages);
}

static int read_one(const char *text, size_t len, struct error *err)
{
    scoped(qmp_wire_done) struct qmp_wire wire;
    scoped(qmp_message_done) struct qmp_message message = QMP_MESSAGE_INIT;

    int r;

    qmp_wire_init(&wire);
    assert_int_equal(qmp_wire_feed(&wire, text, len, NULL), 0);
    leaks_ignore(true);
    r = qmp_wire_next(&wire, &message, err);
    leaks_ignore(false);
    return r;
}

static const char *const foreign[] = {
    "hello\n",
    "{\n",
    "[]\n",
    "42\n",
    "{}\n",
    "null\n",
    "{\"QMP\": 3}\n",
    "{\"QMP\": {}}\n",
    "{\"event\": 3}\n",
    "{\"error\": {}}\n",
    "{\"error\": \"x\"}\n",
    "{\"return\": {}} {\"return\": {}}\n",
    "SSH-2.0-OpenSSH_9.2p1\r\n",
};

static void test_wire_refuses_what_is_not_qmp(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        scoped(error_done) struct error err = ERROR_INIT;

        assert_fails(read_one(foreign[i], strlen(foreign[i]), &err), &err, EBADMSG,
                     "not a QMP message");
    }
}

static void test_wire_survives_a_damaged_byte_anywhere(void **state)
{
    static const char damage[] = {'\0', '\n', '"', '}', '\\', (char)0xff};
    size_t len = sizeof(greeting) - 1;

    for (size_t at = 0; at < len; at++) {
        for (size_t i = 0; i < sizeof(damage); i++) {
            char *text = xmemdup(greeting, len);
            int r;

            text[at] = damage[i];
            r = read_one(text, len, NULL);
            assert_true(r == 1 || r == 0 || r == -EBADMSG);
            free(text);
        }
    }
}

static void test_wire_bounds_a_line(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(qmp_wire_done) struct qmp_wire wire;
    scoped(qmp_message_done) struct qmp_message message = QMP_MESSAGE_INIT;
    char block[65536];

    memset(block, ' ', sizeof(block));
    qmp_wire_init(&wire);
    for (size_t fed = 0; fed < QMP_WIRE_LINE_MAX; fed += sizeof(block)) {
        assert_int_equal(qmp_wire_feed(&wire, block, sizeof(block), NULL), 0);
        assert_int_equal(qmp_wire_next(&wire, &message, NULL), 0);
    }
    assert_fails(qmp_wire_feed(&wire, block, 1, &err), &err, EMSGSIZE, "longer than");
}

static void test_wire_survives_deep_nesting(void **state)
{
    size_t depth = 100000;
    char *text = xmalloc(depth + 2);
    scoped(error_done) struct error err = ERROR_INIT;

    memset(text, '[', depth);
    text[depth] = '\n';
    assert_fails(read_one(text, depth + 1, &err), &err, EBADMSG, "not a QMP message");
    free(text);
}

static void test_wire_takes_only_whole_positive_ids(void **state)
{
    static const struct {
        const char *line;
        uint64_t id;
    } cases[] = {
        {"{\"return\": {}, \"id\": 5}\n", 5},     {"{\"return\": {}}\n", 0},
        {"{\"return\": {}, \"id\": -1}\n", 0},    {"{\"return\": {}, \"id\": \"5\"}\n", 0},
        {"{\"return\": {}, \"id\": 1e300}\n", 0}, {"{\"return\": {}, \"id\": null}\n", 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(qmp_wire_done) struct qmp_wire wire;
        scoped(qmp_message_done) struct qmp_message message = QMP_MESSAGE_INIT;

        qmp_wire_init(&wire);
        assert_int_equal(qmp_wire_feed(&wire, cases[i].line, strlen(cases[i].line), NULL), 0);
        assert_int_equal(qmp_wire_next(&wire, &message, NULL), 1);
        assert_true(message.id == cases[i].id);
    }
}

static void test_wire_writes_commands(void **state)
{
    char *plain = qmp_wire_command("quit", jv_invalid(), 3);
    char *with = qmp_wire_command("x", JV_OBJECT(jv_string("a"), jv_string("\"\n")), 4);

    assert_string_equal(plain, "{\"execute\":\"quit\",\"id\":3}\r\n");
    assert_string_equal(with, "{\"execute\":\"x\",\"id\":4,\"arguments\":{\"a\":\"\\\"\\n\"}}\r\n");
    free(plain);
    free(with);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_reads_a_session_cut_anywhere),
        cmocka_unit_test(test_wire_reads_a_session_byte_by_byte),
        cmocka_unit_test(test_wire_refuses_what_is_not_qmp),
        cmocka_unit_test(test_wire_survives_a_damaged_byte_anywhere),
        cmocka_unit_test(test_wire_bounds_a_line),
        cmocka_unit_test(test_wire_survives_deep_nesting),
        cmocka_unit_test(test_wire_takes_only_whole_positive_ids),
        cmocka_unit_test(test_wire_writes_commands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
