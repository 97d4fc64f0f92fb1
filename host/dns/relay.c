/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job asks its servers one after the other, and goes on listening to those that it has asked.
 * Steps 0..n-1 ask each of n servers by UDP, steps n..2n-1 by TCP, for networks that let only that
 * through.
 *
 *     a step's time is up, or its server failed -> the next step
 *     an answer that was cut      -> the same by TCP from that server; if that fails, the cut one
 *     an answer "I cannot" (SERVFAIL, REFUSED, NOTIMP) -> kept in case that nobody has a better one
 *     any other answer            -> the end
 *     no step and no exchange left, or the patience is over -> the end with what was kept, or
 * nothing
 */
#include "dns/relay.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "dns/exchange.h"
#include "dns/message.h"

#define STEP_MS 700 /* until the next server is asked too */

struct lane { /* a server as one job sees it */
    struct job *job;
    struct exchange *exchanges[2]; /* by enum exchange_way */
};

struct job {
    struct relay *relay;
    struct job *next, **link;
    unsigned generation;
    uint8_t *query;
    size_t len;
    struct dns_servers servers;
    struct lane lanes[DNS_SERVERS_MAX];
    size_t step; /* the next one */
    struct loop_timer *step_timer, *patience;
    struct buf kept; /* the answer to fall back to */
    struct relay_request *waiters;
};

struct relay_request {
    struct job *job;
    struct relay_request *next, **link;
    uint16_t id;
    relay_done_fn done;
    void *arg;
};

struct relay {
    struct loop *loop;
    exchange_fn exchanged[2]; /* by enum exchange_way */
    struct dns_servers servers;
    unsigned generation; /* of the servers */
    struct job *jobs;
    size_t count;
};

static void request_free(struct relay_request *request)
{
    *request->link = request->next;
    if (request->next) {
        request->next->link = request->link;
    }
    free(request);
}

/* Out of the table; what it waits for is given up. */
static void job_stop(struct job *job)
{
    *job->link = job->next;
    if (job->next) {
        job->next->link = job->link;
    }
    job->link = NULL;
    job->relay->count--;
    for (size_t i = 0; i < job->servers.len; i++) {
        exchange_free(job->lanes[i].exchanges[EXCHANGE_UDP]);
        exchange_free(job->lanes[i].exchanges[EXCHANGE_TCP]);
    }
    loop_timer_free(job->step_timer);
    loop_timer_free(job->patience);
}

static void job_free(struct job *job)
{
    buf_done(&job->kept);
    free(job->query);
    free(job);
}

/* Callbacks may cancel other waiters of this job. */
static void job_finish(struct job *job, uint8_t *response, size_t len)
{
    job_stop(job);
    while (job->waiters) {
        struct relay_request *request = job->waiters;
        relay_done_fn done = request->done;
        void *arg = request->arg;

        if (response) {
            dns_set_id(response, request->id);
        }
        request_free(request);
        done(response, len, arg);
    }
    job_free(job);
}

static void job_give_up(struct job *job)
{
    job_finish(job, (uint8_t *)job->kept.data, job->kept.len);
}

static bool is_waiting(const struct job *job)
{
    for (size_t i = 0; i < job->servers.len; i++) {
        if (job->lanes[i].exchanges[EXCHANGE_UDP] || job->lanes[i].exchanges[EXCHANGE_TCP]) {
            return true;
        }
    }
    return false;
}

/* False when that cannot even begin, or runs already. */
static bool ask(struct job *job, size_t server, enum exchange_way way)
{
    struct lane *lane = &job->lanes[server];

    if (lane->exchanges[way]) {
        return false;
    }
    lane->exchanges[way] = exchange_new(job->relay->loop, way, &job->servers.items[server],
                                        job->query, job->len, job->relay->exchanged[way], lane);
    return lane->exchanges[way];
}

/* May end the job. */
static void job_step(struct job *job)
{
    size_t n = job->servers.len;

    while (job->step < 2 * n) {
        size_t step = job->step++;

        if (ask(job, step % n, step < n ? EXCHANGE_UDP : EXCHANGE_TCP)) {
            loop_timer_set(job->step_timer, STEP_MS);
            return;
        }
    }
    if (!is_waiting(job)) {
        job_give_up(job);
    }
}

static void on_step_time(void *arg)
{
    job_step(arg);
}

static void on_patience_end(void *arg)
{
    job_give_up(arg);
}

static void keep(struct job *job, const uint8_t *response, size_t len)
{
    buf_truncate(&job->kept, 0);
    buf_put(&job->kept, response, len);
}

static void drop_exchange(struct lane *lane, enum exchange_way way)
{
    exchange_free(lane->exchanges[way]);
    lane->exchanges[way] = NULL;
}

static bool is_refusal(const uint8_t *response)
{
    unsigned code = dns_response_code(response);

    return code == LDNS_RCODE_SERVFAIL || code == LDNS_RCODE_REFUSED || code == LDNS_RCODE_NOTIMPL;
}

/* The end of one exchange without a good answer; @response may be a poor one. */
static void job_failed(struct lane *lane, enum exchange_way way, const uint8_t *response,
                       size_t len)
{
    struct job *job = lane->job;

    if (response && !job->kept.len) {
        keep(job, response, len);
    }
    drop_exchange(lane, way);
    job_step(job);
}

static void job_answered(struct job *job, const uint8_t *response, size_t len)
{
    scoped(free) uint8_t *copy = xmemdup(response, len); /* the exchange goes first */

    job_finish(job, copy, len);
}

static void on_udp_done(const uint8_t *response, size_t len, void *arg)
{
    struct lane *lane = arg;
    struct job *job = lane->job;
    size_t server = (size_t)(lane - job->lanes);

    if (!response || is_refusal(response)) {
        job_failed(lane, EXCHANGE_UDP, response, len);
    } else if (!dns_response_truncated(response)) {
        job_answered(job, response, len);
    } else {
        keep(job, response, len);
        drop_exchange(lane, EXCHANGE_UDP);
        loop_timer_set(job->step_timer, -1);
        if (!ask(job, server, EXCHANGE_TCP) && !lane->exchanges[EXCHANGE_TCP]) {
            job_give_up(job);
        }
    }
}

static bool has_cut_answer(const struct job *job)
{
    return job->kept.len && dns_response_truncated((const uint8_t *)job->kept.data);
}

static void on_tcp_done(const uint8_t *response, size_t len, void *arg)
{
    struct lane *lane = arg;
    struct job *job = lane->job;

    if (response && !is_refusal(response)) {
        job_answered(job, response, len);
    } else if (has_cut_answer(job)) {
        job_give_up(job);
    } else {
        job_failed(lane, EXCHANGE_TCP, response, len);
    }
}

struct relay *relay_new(struct loop *loop)
{
    struct relay *relay = xnew(struct relay);

    relay->loop = loop;
    relay->exchanged[EXCHANGE_UDP] = on_udp_done;
    relay->exchanged[EXCHANGE_TCP] = on_tcp_done;
    return relay;
}

void relay_free(struct relay *relay)
{
    if (!relay) {
        return;
    }
    while (relay->jobs) {
        struct job *job = relay->jobs;

        while (job->waiters) {
            request_free(job->waiters);
        }
        job_stop(job);
        job_free(job);
    }
    free(relay);
}

void relay_set_servers(struct relay *relay, const struct dns_servers *servers)
{
    relay->servers = *servers;
    relay->generation++;
}

/* The first step is left to the timer, so that no callback comes before relay_start() is over. */
static struct job *job_new(struct relay *relay, const uint8_t *query, size_t len)
{
    struct job *job = xnew(struct job);

    *job = (struct job){.relay = relay,
                        .next = relay->jobs,
                        .link = &relay->jobs,
                        .generation = relay->generation,
                        .query = xmemdup(query, len),
                        .len = len,
                        .servers = relay->servers};
    if (job->next) {
        job->next->link = &job->next;
    }
    relay->jobs = job;
    relay->count++;
    for (size_t i = 0; i < job->servers.len; i++) {
        job->lanes[i].job = job;
    }
    job->step_timer = loop_timer_new(relay->loop, on_step_time, job);
    job->patience = loop_timer_new(relay->loop, on_patience_end, job);
    loop_timer_set(job->step_timer, 0);
    loop_timer_set(job->patience, RELAY_PATIENCE_MS);
    return job;
}

static struct job *find_job(const struct relay *relay, const uint8_t *query, size_t len)
{
    for (struct job *job = relay->jobs; job; job = job->next) {
        if (job->generation == relay->generation && job->len == len &&
            memcmp(job->query + 2, query + 2, len - 2) == 0) {
            return job;
        }
    }
    return NULL;
}

struct relay_request *relay_start(struct relay *relay, const uint8_t *query, size_t len,
                                  relay_done_fn done, void *arg)
{
    struct job *job = find_job(relay, query, len);
    struct relay_request *request;

    if (!job && (!relay->servers.len || relay->count >= RELAY_QUERIES_MAX)) {
        return NULL;
    }
    job = job ? job : job_new(relay, query, len);
    request = xnew(struct relay_request);
    *request = (struct relay_request){.job = job,
                                      .next = job->waiters,
                                      .link = &job->waiters,
                                      .id = dns_id(query),
                                      .done = done,
                                      .arg = arg};
    if (request->next) {
        request->next->link = &request->next;
    }
    job->waiters = request;
    return request;
}

void relay_cancel(struct relay_request *request)
{
    struct job *job = request->job;

    request_free(request);
    /* Within job_finish() the job is no more in the table and frees itself. */
    if (!job->waiters && job->link) {
        job_stop(job);
        job_free(job);
    }
}
