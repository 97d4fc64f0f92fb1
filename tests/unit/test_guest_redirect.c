/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules in a real kernel, in a network namespace of this process's own; skipped where there may
 * be none. 192.168.5.3 is an address of the namespace, so that without rules a query is refused at
 * once.
 */
#include "test.h"
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "iptables.h"
#include "link.h"
#include "loop.h"
#include "nft.h"
#include "redirect.h"
#include "rpc.h"
#include "wire.h"

static bool have_namespace;

static void add_address(int fd, const char *label, const char *address)
{
    struct ifreq request = {0};
    struct sockaddr_in *addr = (struct sockaddr_in *)&request.ifr_addr;

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", label);
    addr->sin_family = AF_INET;
    assert_int_equal(inet_pton(AF_INET, address, &addr->sin_addr), 1);
    assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
}

static int enter_namespace(void **state)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK};
    int fd;

    if (unshare(CLONE_NEWNET) < 0) {
        print_message("# no network namespace for us, so no rules are tried\n");
        return 0;
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    add_address(fd, "lo:1", "192.168.5.3");
    close(fd);
    have_namespace = true;
    return 0;
}

static int bound(int type, uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_true(type == SOCK_DGRAM || listen(fd, 8) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static int ask(int type)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(53)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, "192.168.5.3", &addr.sin_addr);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

/* A query and its answer arrive, each at the right end. */
static bool udp_arrives_at(int server)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    char data[8] = "";
    int fd = ask(SOCK_DGRAM);
    struct pollfd polls[] = {{.fd = server, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    bool good;

    assert_int_equal(send(fd, "ask", 4, 0), 4);
    poll(polls, 2, 5000); /* the query at the server, or its refusal at the client */
    good = polls[0].revents & POLLIN &&
           recvfrom(server, data, sizeof(data), 0, (struct sockaddr *)&peer, &len) == 4 &&
           sendto(server, "told", 5, 0, (struct sockaddr *)&peer, len) == 5 &&
           recv(fd, data, sizeof(data), 0) == 5 && strcmp(data, "told") == 0;
    close(fd);
    return good;
}

static bool tcp_arrives_at(int server)
{
    int fd = ask(SOCK_STREAM), accepted;

    if (fd < 0) {
        return false;
    }
    accepted = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    close(accepted);
    close(fd);
    return accepted >= 0;
}

struct servers {
    int udp, tcp;
    struct nft_redirect rules;
};

static void servers_open(struct servers *s)
{
    s->udp = bound(SOCK_DGRAM, &s->rules.udp_port);
    s->tcp = bound(SOCK_STREAM, &s->rules.tcp_port);
    inet_pton(AF_INET, "192.168.5.3", &s->rules.address);
    inet_pton(AF_INET, "127.0.0.1", &s->rules.to);
}

static void servers_close(struct servers *s)
{
    close(s->udp);
    close(s->tcp);
}

static struct nft *open_or_skip(struct servers *s)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct nft *nft = NULL;
    int r;

    if (!have_namespace) {
        skip();
    }
    r = nft_open(&nft, &err);
    servers_open(s);
    r = r < 0 ? r : nft_apply(nft, &s->rules, &err);
    if (r == -EOPNOTSUPP || r == -EPROTONOSUPPORT || r == -ENOENT || r == -EPERM) {
        print_message("# %s\n", error_text(&err));
        skip();
    }
    assert_works(r, &err);
    return nft;
}

static void test_queries_go_to_the_resolver_as_long_as_the_table_is_there(void **state)
{
    struct servers s;
    struct nft *nft = open_or_skip(&s);

    assert_true(udp_arrives_at(s.udp));
    assert_true(tcp_arrives_at(s.tcp));
    nft_close(nft);
    assert_false(udp_arrives_at(s.udp));
    assert_false(tcp_arrives_at(s.tcp));
    servers_close(&s);
}

static void test_newer_ports_take_the_place_of_older_ones(void **state)
{
    struct servers old, new;
    struct nft *nft = open_or_skip(&old);

    servers_open(&new);
    assert_int_equal(nft_apply(nft, &new.rules, NULL), 0);
    assert_true(udp_arrives_at(new.udp));
    assert_true(tcp_arrives_at(new.tcp));
    new.rules.tcp_port = 0;
    assert_int_equal(nft_apply(nft, &new.rules, NULL), 0);
    assert_true(udp_arrives_at(new.udp));
    assert_false(tcp_arrives_at(new.tcp));
    assert_int_equal(nft_remove(nft, NULL), 0);
    assert_int_equal(nft_remove(nft, NULL), 0);
    assert_false(udp_arrives_at(new.udp));
    nft_close(nft);
    servers_close(&old);
    servers_close(&new);
}

static void test_a_flush_by_others_is_noticed_and_repaired(void **state)
{
    struct servers s;
    struct nft *nft = open_or_skip(&s), *other = NULL;

    assert_int_equal(nft_remove(nft, NULL), 0);
    nft_disown(nft);
    assert_int_equal(nft_apply(nft, &s.rules, NULL), 0);
    assert_false(nft_watch_read(nft)); /* that was ourselves */
    assert_int_equal(nft_open(&other, NULL), 0);
    assert_int_equal(nft_remove(other, NULL), 0);
    assert_false(udp_arrives_at(s.udp));
    assert_true(nft_watch_read(nft));
    assert_int_equal(nft_apply(nft, &s.rules, NULL), 0);
    assert_true(udp_arrives_at(s.udp));
    assert_false(nft_watch_read(nft));
    assert_int_equal(nft_remove(nft, NULL), 0);
    nft_close(other);
    nft_close(nft);
    servers_close(&s);
}

static void test_a_table_that_somebody_has_left_is_replaced(void **state)
{
    struct servers s;
    struct nft *old = open_or_skip(&s), *nft = NULL;

    assert_int_equal(nft_remove(old, NULL), 0);
    nft_disown(old);
    assert_int_equal(nft_apply(old, &s.rules, NULL), 0);
    nft_close(old); /* without an owner it stays */
    assert_true(udp_arrives_at(s.udp));
    assert_int_equal(nft_open(&nft, NULL), 0);
    assert_int_equal(nft_apply(nft, &s.rules, NULL), 0);
    assert_true(udp_arrives_at(s.udp));
    nft_close(nft);
    assert_false(udp_arrives_at(s.udp));
    servers_close(&s);
}

/* A notice as the kernel sends it, of a table with this name. */
static size_t write_notice(char *out, uint16_t type, uint32_t port, const char *table)
{
    struct nlmsghdr *header = (struct nlmsghdr *)(void *)out;
    size_t at = NLMSG_HDRLEN + sizeof(struct nfgenmsg), name = strlen(table) + 1;
    struct nlattr attr = {.nla_len = (uint16_t)(NLA_HDRLEN + name), .nla_type = NFTA_TABLE_NAME};

    memset(out, 0, 128);
    memcpy(out + at, &attr, sizeof(attr));
    memcpy(out + at + NLA_HDRLEN, table, name);
    *header = (struct nlmsghdr){.nlmsg_len = (uint32_t)(at + NLA_ALIGN(NLA_HDRLEN + name)),
                                .nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
                                .nlmsg_pid = port};
    return header->nlmsg_len;
}

static void test_only_what_takes_our_table_away_is_a_hit(void **state)
{
    static const struct {
        uint16_t type;
        uint32_t port;
        const char *table;
        bool want;
    } rows[] = {
        {NFT_MSG_DELTABLE, 8, NFT_TABLE, true},  {NFT_MSG_DELCHAIN, 8, NFT_TABLE, true},
        {NFT_MSG_DELRULE, 8, NFT_TABLE, true},   {NFT_MSG_DELTABLE, 7, NFT_TABLE, false},
        {NFT_MSG_NEWTABLE, 8, NFT_TABLE, false}, {NFT_MSG_DELTABLE, 8, NFT_TABLE "2", false},
        {NFT_MSG_DELTABLE, 8, "lima", false},    {NFT_MSG_NEWGEN, 8, NFT_TABLE, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _Alignas(8) char notice[128];
        size_t len = write_notice(notice, rows[i].type, rows[i].port, rows[i].table);

        assert_int_equal(nft_notice_hits(notice, len, 7), rows[i].want);
        for (size_t cut = 0; cut < len; cut++) {
            assert_false(nft_notice_hits(notice, cut, 7));
        }
    }
}

/* --- the service, as the host calls it --- */

struct service {
    struct loop *loop;
    struct children *children;
    struct redirect *redirect;
    struct rpc *rpc;
    struct links *links;
};

struct caller {
    struct service *service;
    int fd;
    struct loop_watch *watch;
    uint8_t in[4096];
    size_t len;
    bool ended;
};

static void on_prepare(void *arg)
{
    links_flush(((struct service *)arg)->links);
}

static void service_open(struct service *s)
{
    s->loop = loop_new();
    s->children = children_new(s->loop);
    s->redirect = redirect_new(s->loop, s->children);
    s->rpc = rpc_new(NULL);
    rpc_add(s->rpc, &(struct rpc_service){.name = "Redirect",
                                          .has_request = true,
                                          .serve = redirect_serve,
                                          .arg = s->redirect});
    s->links = links_new(s->loop, s->rpc);
    loop_set_prepare(s->loop, on_prepare, s);
}

static void service_close(struct service *s)
{
    redirect_free(s->redirect);
    children_free(s->children);
    links_free(s->links);
    rpc_free(s->rpc);
    loop_free(s->loop);
}

static void on_caller_readable(int fd, short revents, void *arg)
{
    struct caller *c = arg;
    ssize_t n = read(fd, c->in + c->len, sizeof(c->in) - c->len);

    if (n <= 0) {
        c->ended = true;
        loop_watch_set(c->watch, 0);
    } else {
        c->len += (size_t)n;
    }
    loop_quit(c->service->loop);
}

static void put_wire(int fd, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(fields, message, bytes);

    assert_int_equal(write(fd, bytes, len), len);
}

static void call(struct service *s, struct caller *c, const struct nft_redirect *rules)
{
    lima_guest_v1_StreamOpen open = {.service = "Redirect"};
    lima_guest_v1_RedirectRequest request = {.address = {.size = 4}, .to = {.size = 4}};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    memcpy(request.address.bytes, &rules->address, 4);
    memcpy(request.to.bytes, &rules->to, 4);
    request.udp_port = rules->udp_port;
    request.tcp_port = rules->tcp_port;
    *c = (struct caller){.service = s, .fd = fds[1]};
    c->watch = loop_watch_new(s->loop, c->fd, POLLIN, on_caller_readable, c);
    put_wire(c->fd, lima_guest_v1_StreamOpen_fields, &open);
    put_wire(c->fd, lima_guest_v1_RedirectRequest_fields, &request);
    links_add(s->links, fds[0], DIRECT_FORM_BARE, RPC_FROM_HOST);
}

static void hang_up(struct caller *c)
{
    loop_watch_free(c->watch);
    close(c->fd);
}

/* The next message of an answer; runs the loop until it is there. */
static void take(struct caller *c, const pb_msgdesc_t *fields, void *ret)
{
    while (c->len == 0 || c->len < 1u + c->in[0]) {
        assert_false(c->ended);
        assert_int_equal(loop_run(c->service->loop), 0);
    }
    assert_true(c->in[0] < 0x80);
    assert_true(wire_decode(c->in + 1, c->in[0], fields, ret));
    c->len -= 1u + c->in[0];
    memmove(c->in, c->in + 1 + c->in[0], c->len);
}

static uint32_t take_reply(struct caller *c)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    take(c, lima_guest_v1_StreamReply_fields, &reply);
    return reply.error;
}

static void test_a_call_redirects_as_long_as_its_stream_lives(void **state)
{
    struct servers s, newer;
    lima_guest_v1_Redirected redirected = lima_guest_v1_Redirected_init_zero;
    struct service service;
    struct caller first, second;

    nft_close(open_or_skip(&s));
    servers_open(&newer);
    service_open(&service);
    call(&service, &first, &s.rules);
    assert_int_equal(take_reply(&first), 0);
    take(&first, lima_guest_v1_Redirected_fields, &redirected);
    assert_string_equal(redirected.method, "nftables");
    assert_true(udp_arrives_at(s.udp));

    call(&service, &second, &newer.rules); /* takes its place */
    assert_int_equal(take_reply(&second), 0);
    assert_true(udp_arrives_at(newer.udp));
    while (!first.ended) {
        loop_run(service.loop);
    }
    assert_true(tcp_arrives_at(newer.tcp));

    hang_up(&first);
    shutdown(second.fd, SHUT_WR);
    while (!second.ended) {
        loop_run(service.loop);
    }
    assert_false(udp_arrives_at(newer.udp));
    hang_up(&second);
    service_close(&service);
    servers_close(&s);
    servers_close(&newer);
}

static void test_a_call_that_makes_no_sense_is_refused(void **state)
{
    struct nft_redirect rules = {0};
    struct service service;
    struct caller c;

    service_open(&service);
    call(&service, &c, &rules); /* without a port */
    assert_int_equal(take_reply(&c), EINVAL);
    hang_up(&c);
    service_close(&service);
}

/* --- iptables --- */

struct filter {
    struct loop *loop;
    struct children *children;
    struct iptables *iptables;
    int signal_fd;
    struct loop_watch *watch;
    int done; /* calls */
    unsigned failed;
};

static void on_child_signal(int fd, short revents, void *arg)
{
    struct filter *f = arg;
    struct signalfd_siginfo info;

    while (read(fd, &info, sizeof(info)) > 0) {
    }
    children_reap(f->children);
    loop_quit(f->loop);
}

static void on_filter_done(unsigned failed, void *arg)
{
    struct filter *f = arg;

    f->done++;
    f->failed = failed;
}

static void filter_open(struct filter *f)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    *f = (struct filter){.loop = loop_new()};
    f->children = children_new(f->loop);
    f->iptables = iptables_new(f->children, on_filter_done, f);
    f->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    f->watch = loop_watch_new(f->loop, f->signal_fd, POLLIN, on_child_signal, f);
}

static void filter_close(struct filter *f)
{
    iptables_free(f->iptables);
    children_free(f->children);
    loop_watch_free(f->watch);
    close(f->signal_fd);
    loop_free(f->loop);
}

static void test_iptables_does_the_same_and_keeps_the_last_wish(void **state)
{
    struct servers s, newer;
    struct filter f;

    if (access("/usr/sbin/iptables", X_OK) != 0) {
        print_message("# no iptables here\n");
        skip();
    }
    nft_close(open_or_skip(&s));
    servers_open(&newer);
    filter_open(&f);
    iptables_want(f.iptables, &s.rules);
    while (!f.done) {
        loop_run(f.loop);
    }
    assert_int_equal(f.failed, 0);
    assert_true(udp_arrives_at(s.udp));
    assert_true(tcp_arrives_at(s.tcp));

    iptables_want(f.iptables, NULL);
    iptables_want(f.iptables, &s.rules);
    iptables_want(f.iptables, &newer.rules);
    while (f.done < 2) {
        loop_run(f.loop);
    }
    assert_int_equal(f.failed, 0);
    assert_true(udp_arrives_at(newer.udp));

    iptables_want(f.iptables, NULL);
    while (udp_arrives_at(newer.udp)) {
        loop_run(f.loop);
    }
    assert_int_equal(f.done, 2);
    filter_close(&f);
    servers_close(&s);
    servers_close(&newer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queries_go_to_the_resolver_as_long_as_the_table_is_there),
        cmocka_unit_test(test_newer_ports_take_the_place_of_older_ones),
        cmocka_unit_test(test_a_flush_by_others_is_noticed_and_repaired),
        cmocka_unit_test(test_a_table_that_somebody_has_left_is_replaced),
        cmocka_unit_test(test_only_what_takes_our_table_away_is_a_hit),
        cmocka_unit_test(test_a_call_redirects_as_long_as_its_stream_lives),
        cmocka_unit_test(test_iptables_does_the_same_and_keeps_the_last_wish),
        cmocka_unit_test(test_a_call_that_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
