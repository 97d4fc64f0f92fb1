/* SPDX-License-Identifier: Apache-2.0 */
/* Split at the colons into elements, whose kinds then have to make up one of the forms. */
#include "forward/spec.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include "base/alloc.h"

#define ELEMENTS_MAX 4
#define FORM         "[HOSTIP:]HOSTPORT:[GUESTIP:]GUESTPORT[/udp] or /HOST.SOCK:/GUEST.SOCK"

enum kind {
    KIND_ADDRESS,
    KIND_PORTS,
    KIND_PATH,
};

struct element {
    enum kind kind;
    char *text;
    size_t at; /* its place in the spec, from 1 */
    long first, last;
};

struct spec {
    const char *text;
    struct element elements[ELEMENTS_MAX];
    size_t count;
    char *proto; /* NULL: not said */
    size_t proto_at;
};

static void spec_done(struct spec *spec)
{
    for (size_t i = 0; i < spec->count; i++) {
        free(spec->elements[i].text);
    }
    free(spec->proto);
}
SCOPED_VAL(struct spec, spec_done)

static _printf_(4, 5) int refuse(const struct spec *spec, size_t at, struct error *err,
                                 const char *fmt, ...)
{
    scoped(free) char *what = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = xvasprintf(fmt, ap);
    va_end(ap);
    error_set(err, EINVAL, "'%s', character %zu: %s", spec->text, at, what);
    return error_hint(err, "a forward is " FORM);
}

/* --- elements --- */

/* Digits at *@p, which moves behind them; -1: none, or no port. */
static long take_port(const char **p)
{
    long port = 0;
    const char *start = *p;

    for (; isdigit((unsigned char)**p); ++*p) {
        port = MIN(port * 10 + (**p - '0'), 100000);
    }
    return *p > start && port >= 1 && port <= 65535 ? port : -1;
}

static int read_ports(const struct spec *spec, struct element *e, struct error *err)
{
    const char *p = e->text;

    e->kind = KIND_PORTS;
    e->first = e->last = take_port(&p);
    if (e->first > 0 && *p == '-') {
        p++;
        e->last = take_port(&p);
    }
    if (e->first < 0 || e->last < 0 || *p) {
        return refuse(spec, e->at, err, "'%s' is not a port from 1 to 65535, nor FIRST-LAST",
                      e->text);
    }
    if (e->first > e->last) {
        return refuse(spec, e->at, err, "'%s' does not ascend", e->text);
    }
    return 0;
}

static int read_word(const struct spec *spec, struct element *e, struct error *err)
{
    struct in6_addr address;

    if (!*e->text) {
        return refuse(spec, e->at, err, "something is missing here");
    }
    if (*e->text == '/') {
        e->kind = KIND_PATH;
        return 0;
    }
    if (strchr(e->text, '.')) {
        e->kind = KIND_ADDRESS;
        return inet_pton(AF_INET, e->text, &address) == 1
                   ? 0
                   : refuse(spec, e->at, err, "'%s' is not an IPv4 address", e->text);
    }
    return read_ports(spec, e, err);
}

/* "[::1]" */
static int read_bracket(struct spec *spec, const char **p, struct element *e, struct error *err)
{
    const char *end = strchr(*p, ']');
    struct in6_addr address;

    e->kind = KIND_ADDRESS;
    if (!end) {
        return refuse(spec, e->at, err, "']' is missing");
    }
    e->text = xstrndup(*p + 1, (size_t)(end - *p) - 1);
    spec->count++;
    *p = end + 1;
    return inet_pton(AF_INET6, e->text, &address) == 1
               ? 0
               : refuse(spec, e->at, err, "'%s' is not an IPv6 address", e->text);
}

/* One element up to the ':', the '/' of a protocol, or the end. */
static int read_element(struct spec *spec, const char **p, struct error *err)
{
    struct element *e = &spec->elements[spec->count];
    size_t len;

    *e = (struct element){.at = (size_t)(*p - spec->text) + 1};
    if (**p == '[') {
        return read_bracket(spec, p, e, err);
    }
    len = strcspn(*p, **p == '/' ? ":" : ":/");
    e->text = xstrndup(*p, len);
    spec->count++;
    *p += len;
    return read_word(spec, e, err);
}

static int read_proto(struct spec *spec, const char *p, struct error *err)
{
    static const char *const protos[] = {"tcp", "udp", "any"};

    spec->proto_at = (size_t)(p - spec->text) + 1;
    for (size_t i = 0; i < ARRAY_LEN(protos); i++) {
        if (strcmp(p, protos[i]) == 0) {
            spec->proto = xstrdup(p);
            return 0;
        }
    }
    return refuse(spec, spec->proto_at, err, "'%s' is none of tcp, udp, any", p);
}

static int read_all(struct spec *spec, struct error *err)
{
    const char *p = spec->text;
    int r;

    for (;;) {
        if (spec->count == ELEMENTS_MAX) {
            return refuse(spec, (size_t)(p - spec->text) + 1, err, "this is too much");
        }
        r = read_element(spec, &p, err);
        if (r < 0) {
            return r;
        }
        if (*p == '/') {
            return read_proto(spec, p + 1, err);
        }
        if (!*p) {
            return 0;
        }
        if (*p != ':') {
            return refuse(spec, (size_t)(p - spec->text) + 1, err, "':' is missing");
        }
        p++;
    }
}

/* --- sides --- */

struct side {
    const struct element *address; /* NULL: none */
    const struct element *end;     /* ports or a path */
};

static int read_side(const struct spec *spec, size_t *at, const char *whose, struct side *ret,
                     struct error *err)
{
    const struct element *e = &spec->elements[*at];

    *ret = (struct side){0};
    if (*at < spec->count && e->kind == KIND_ADDRESS) {
        ret->address = e;
        e = &spec->elements[++*at];
    }
    if (*at >= spec->count) {
        return refuse(spec, strlen(spec->text) + 1, err, "the port of the %s is missing", whose);
    }
    if (e->kind == KIND_ADDRESS || (ret->address && e->kind == KIND_PATH)) {
        return refuse(spec, e->at, err, "a port of the %s is wanted here", whose);
    }
    ret->end = e;
    ++*at;
    return 0;
}

static jv put_side(jv rule, const char *whose, const struct side *side)
{
    scoped(free) char *ip = xasprintf("%sIP", whose);
    scoped(free) char *port = xasprintf("%sPort", whose);
    scoped(free) char *range = xasprintf("%sPortRange", whose);
    scoped(free) char *path = xasprintf("%sSocket", whose);
    const struct element *e = side->end;

    if (side->address) {
        rule = jv_object_set(rule, jv_string(ip), jv_string(side->address->text));
    }
    if (e->kind == KIND_PATH) {
        return jv_object_set(rule, jv_string(path), jv_string(e->text));
    }
    if (e->first == e->last) {
        return jv_object_set(rule, jv_string(port), jv_number((double)e->first));
    }
    return jv_object_set(rule, jv_string(range),
                         JV_ARRAY(jv_number((double)e->first), jv_number((double)e->last)));
}

static int check_sides(const struct spec *spec, const struct side *host, const struct side *guest,
                       struct error *err)
{
    const struct element *h = host->end, *g = guest->end;

    if (h->kind == KIND_PORTS && g->kind == KIND_PORTS) {
        return h->last - h->first == g->last - g->first
                   ? 0
                   : refuse(spec, g->at, err, "'%s' is not as wide as '%s'", g->text, h->text);
    }
    if (h->kind == KIND_PORTS && h->first != h->last) {
        return refuse(spec, h->at, err, "a socket goes with one port, not with '%s'", h->text);
    }
    if (g->kind == KIND_PORTS && g->first != g->last) {
        return refuse(spec, g->at, err, "a socket goes with one port, not with '%s'", g->text);
    }
    return spec->proto && strcmp(spec->proto, "udp") == 0
               ? refuse(spec, spec->proto_at, err, "sockets do not go with udp")
               : 0;
}

int forward_spec_parse(const char *text, jv *ret, struct error *err)
{
    scoped(spec_done) struct spec spec = {.text = text};
    struct side host, guest;
    size_t at = 0;
    jv rule;
    int r = read_all(&spec, err);

    if (r == 0) {
        r = read_side(&spec, &at, "host", &host, err);
    }
    if (r == 0 && spec.count == 1 && host.end->kind == KIND_PORTS) {
        guest = host;
    } else if (r == 0) {
        r = read_side(&spec, &at, "guest", &guest, err);
    }
    if (r == 0 && at < spec.count && spec.count > 1) {
        r = refuse(&spec, spec.elements[at].at, err, "this is too much");
    }
    if (r == 0) {
        r = check_sides(&spec, &host, &guest, err);
    }
    if (r < 0) {
        return r;
    }
    rule = put_side(put_side(jv_object(), "guest", &guest), "host", &host);
    if (spec.proto) {
        rule = jv_object_set(rule, jv_string("proto"), jv_string(spec.proto));
    }
    *ret = rule;
    return 0;
}
