/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job is a name with those who wait for it. The loop's thread owns jobs and waiters; a worker has
 * of a job only its name and its result, between taking it from the queue and putting it on the
 * list of those that are done:
 *
 *     queued -> running -> done -> freed by the loop's thread
 *        \-> freed by the loop's thread, when nobody waits any more
 *
 * The pool under its lock outlives its owner as long as a worker runs: the last one to go frees it.
 */
#include "dns/lookup.h"

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"

#define WORKERS_MAX   16
#define WORKER_STACK  (512u << 10)
#define WORKER_IDLE_S 10
#define JOB_BUCKETS   256
#define ADDRESSES_MAX 512

struct job {
    char *name;
    unsigned generation;
    enum { JOB_QUEUED, JOB_RUNNING, JOB_DONE } state; /* under the pool's lock */
    struct job *queue_next;                           /* of the queue, then of the done list */
    struct lookup_result result;
    struct lookup_request *waiters;
    struct job *bucket_next;
};

struct lookup_request {
    struct job *job;
    struct lookup *lookup;
    struct lookup_request *next, **link;
    lookup_done_fn done;
    void *arg;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    lookup_fn fn;
    struct job *queue, **queue_end;
    struct job *done;
    unsigned workers, idle, queued;
    bool closing;
    int event_fd; /* -1 once closing */
};

struct lookup {
    struct pool *pool;
    struct loop_io *io;
    int event_fd;
    struct job *buckets[JOB_BUCKETS];
    size_t jobs;
    unsigned generation; /* see lookup_renew() */
};

/* --- the lookup itself --- */

static bool add_address(struct lookup_result *result, const struct sockaddr *addr)
{
    struct config_address address = {.family = addr->sa_family};

    if (addr->sa_family == AF_INET) {
        address.v4 = ((const struct sockaddr_in *)(const void *)addr)->sin_addr;
    } else if (addr->sa_family == AF_INET6) {
        address.v6 = ((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
    } else {
        return true;
    }
    result->addresses[result->count++] = address;
    return result->count < ADDRESSES_MAX;
}

/*
 * A last dot keeps the search list out, since who asks a server asks for exactly one name. But the
 * sources other than DNS (tables, mDNS, this machine's own name) know single labels without a dot.
 * A number is an address to getaddrinfo(), in DNS it is a label.
 */
static bool wants_dot(const char *name)
{
    struct in_addr address;

    return strchr(name, '.') || inet_aton(name, &address);
}

static unsigned code_of(int r)
{
    switch (r) {
    case EAI_NODATA:
        return LDNS_RCODE_NOERROR;
    case EAI_NONAME:
        return LDNS_RCODE_NXDOMAIN;
    default:
        return LDNS_RCODE_SERVFAIL;
    }
}

/* Both families at once: only so it tells a name without addresses from one that is not there. */
void lookup_by_getaddrinfo(const char *name, struct lookup_result *ret)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    scoped(free) char *asked = xasprintf("%s%s", name, wants_dot(name) ? "." : "");
    struct addrinfo *list = NULL;
    int r = getaddrinfo(asked, NULL, &hints, &list);

    if (r != 0) {
        ret->code = code_of(r);
        return;
    }
    ret->code = LDNS_RCODE_NOERROR;
    ret->addresses = xnew_n(struct config_address, ADDRESSES_MAX);
    for (struct addrinfo *ai = list; ai && add_address(ret, ai->ai_addr); ai = ai->ai_next) {
    }
    ret->addresses = xrealloc(ret->addresses, MAX(ret->count, 1u), sizeof(ret->addresses[0]));
    freeaddrinfo(list);
}

/* --- workers --- */

static void job_free(struct job *job)
{
    free(job->name);
    free(job->result.addresses);
    free(job);
}

static void pool_free(struct pool *pool)
{
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Waits for work, under the lock. NULL: the worker has to go. */
static struct job *take_job(struct pool *pool)
{
    struct timespec until;
    struct job *job;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WORKER_IDLE_S;
    pool->idle++;
    while (!pool->queue && !pool->closing && r != ETIMEDOUT) {
        r = pthread_cond_timedwait(&pool->work, &pool->lock, &until);
    }
    pool->idle--;
    job = pool->closing ? NULL : pool->queue;
    if (job) {
        pool->queue = job->queue_next;
        if (!pool->queue) {
            pool->queue_end = &pool->queue;
        }
        job->state = JOB_RUNNING;
        pool->queued--;
    }
    return job;
}

static void give_back(struct pool *pool, struct job *job)
{
    if (pool->closing) {
        job_free(job); /* nobody else knows it any more */
        return;
    }
    job->state = JOB_DONE;
    job->queue_next = pool->done;
    pool->done = job;
    eventfd_write(pool->event_fd, 1);
}

static void *run_worker(void *arg)
{
    struct pool *pool = arg;
    struct job *job;
    bool last;

    pthread_mutex_lock(&pool->lock);
    while ((job = take_job(pool))) {
        pthread_mutex_unlock(&pool->lock);
        pool->fn(job->name, &job->result);
        pthread_mutex_lock(&pool->lock);
        give_back(pool, job);
    }
    last = --pool->workers == 0 && pool->closing;
    pthread_mutex_unlock(&pool->lock);
    if (last) {
        pool_free(pool);
    }
    return NULL;
}

/* Signals are the loop's. Under the lock. */
static void add_worker(struct pool *pool)
{
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_t thread;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, WORKER_STACK);
    r = pthread_create(&thread, &attr, run_worker, pool);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0) {
        pool->workers++;
    } else {
        log_debug("no thread for lookups: %s, ignoring", strerror(r));
    }
}

/* --- the loop's side --- */

static struct job **bucket_of(struct lookup *lookup, const char *name)
{
    unsigned hash = 5381;

    for (; *name; name++) {
        hash = hash * 33 + (unsigned char)*name;
    }
    return &lookup->buckets[hash % JOB_BUCKETS];
}

static void forget_job(struct lookup *lookup, struct job *job)
{
    struct job **link = bucket_of(lookup, job->name);

    while (*link != job) {
        link = &(*link)->bucket_next;
    }
    *link = job->bucket_next;
    lookup->jobs--;
}

static void request_free(struct lookup_request *request)
{
    *request->link = request->next;
    if (request->next) {
        request->next->link = request->link;
    }
    free(request);
}

/* A callback may cancel other requests of the same job, and start new ones. */
static void finish_job(struct lookup *lookup, struct job *job)
{
    forget_job(lookup, job);
    while (job->waiters) {
        struct lookup_request *request = job->waiters;
        lookup_done_fn done = request->done;
        void *arg = request->arg;

        request_free(request);
        done(&job->result, arg);
    }
    job_free(job);
}

static void on_lookup_done(evutil_socket_t fd, short what, void *arg)
{
    struct lookup *lookup = arg;
    struct job *job, *next;
    eventfd_t count;

    eventfd_read(fd, &count);
    pthread_mutex_lock(&lookup->pool->lock);
    job = steal(lookup->pool->done);
    pthread_mutex_unlock(&lookup->pool->lock);
    for (; job; job = next) {
        next = job->queue_next;
        finish_job(lookup, job);
    }
}

static struct pool *pool_new(lookup_fn fn, int event_fd)
{
    struct pool *pool = xnew(struct pool);
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&pool->lock, NULL);
    pool->fn = fn;
    pool->event_fd = event_fd;
    pool->queue_end = &pool->queue;
    return pool;
}

int lookup_new(struct loop *loop, lookup_fn fn, struct lookup **ret, struct error *err)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct lookup *lookup;

    if (fd < 0) {
        return error_errno(err, errno, "opening an event descriptor");
    }
    lookup = xnew(struct lookup);
    lookup->event_fd = fd;
    lookup->pool = pool_new(fn, fd);
    lookup->io = loop_io_new(loop, fd, EV_READ, on_lookup_done, lookup);
    *ret = lookup;
    return 0;
}

/* Takes the jobs that no worker has. Under the lock. */
static void drop_jobs(struct lookup *lookup)
{
    for (size_t i = 0; i < JOB_BUCKETS; i++) {
        struct job *next;

        for (struct job *job = lookup->buckets[i]; job; job = next) {
            next = job->bucket_next;
            while (job->waiters) {
                request_free(job->waiters);
            }
            if (job->state != JOB_RUNNING) {
                job_free(job);
            }
        }
    }
}

void lookup_free(struct lookup *lookup)
{
    struct pool *pool;
    bool last;

    if (!lookup) {
        return;
    }
    pool = lookup->pool;
    pthread_mutex_lock(&pool->lock);
    drop_jobs(lookup);
    pool->closing = true;
    pool->event_fd = -1;
    last = pool->workers == 0;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    if (last) {
        pool_free(pool);
    }
    loop_io_free(lookup->io);
    fd_close(lookup->event_fd);
    free(lookup);
}

void lookup_renew(struct lookup *lookup)
{
    lookup->generation++;
}

static struct job *add_job(struct lookup *lookup, const char *name, struct job **bucket)
{
    struct pool *pool = lookup->pool;
    struct job *job = xnew(struct job);

    job->name = xstrdup(name);
    job->generation = lookup->generation;
    job->bucket_next = *bucket;
    *bucket = job;
    lookup->jobs++;
    pthread_mutex_lock(&pool->lock);
    *pool->queue_end = job;
    pool->queue_end = &job->queue_next;
    pool->queued++;
    pthread_cond_signal(&pool->work);
    if (pool->queued > pool->idle && pool->workers < WORKERS_MAX) {
        add_worker(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

struct lookup_request *lookup_start(struct lookup *lookup, const char *name, lookup_done_fn done,
                                    void *arg)
{
    struct job **bucket = bucket_of(lookup, name);
    struct lookup_request *request;
    struct job *job = *bucket;

    while (job && (job->generation != lookup->generation || strcmp(job->name, name) != 0)) {
        job = job->bucket_next;
    }
    if (!job && lookup->jobs >= LOOKUP_NAMES_MAX) {
        return NULL;
    }
    job = job ? job : add_job(lookup, name, bucket);
    request = xnew(struct lookup_request);
    *request = (struct lookup_request){.job = job,
                                       .lookup = lookup,
                                       .next = job->waiters,
                                       .link = &job->waiters,
                                       .done = done,
                                       .arg = arg};
    if (request->next) {
        request->next->link = &request->next;
    }
    job->waiters = request;
    return request;
}

/* A job that waits in the queue for nobody would only keep others waiting. */
static void drop_queued(struct lookup *lookup, struct job *job)
{
    struct pool *pool = lookup->pool;
    struct job **link = &pool->queue;
    bool queued;

    pthread_mutex_lock(&pool->lock);
    queued = job->state == JOB_QUEUED;
    while (queued && *link != job) {
        link = &(*link)->queue_next;
    }
    if (queued) {
        pool->queued--;
        *link = job->queue_next;
        if (!*link) {
            pool->queue_end = link;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (queued) {
        forget_job(lookup, job);
        job_free(job);
    }
}

void lookup_cancel(struct lookup_request *request)
{
    struct lookup *lookup = request->lookup;
    struct job *job = request->job;

    request_free(request);
    if (!job->waiters) {
        drop_queued(lookup, job);
    }
}
