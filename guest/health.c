/* SPDX-License-Identifier: Apache-2.0 */
#include "health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"
#include "loop.h"
#include "wire.h"

#define TEXT_MAX 16384

typedef lima_guest_v1_Health health_msg; /* offsetof() wants one word */

void health_read_memory(const char *text, lima_guest_v1_Health *health)
{
    static const struct {
        const char *key;
        size_t offset;
    } fields[] = {
        {"MemTotal:", offsetof(health_msg, memory_total)},
        {"MemAvailable:", offsetof(health_msg, memory_available)},
        {"SwapTotal:", offsetof(health_msg, swap_total)},
        {"SwapFree:", offsetof(health_msg, swap_free)},
    };

    for (; *text; text += strcspn(text, "\n"), text += *text == '\n') {
        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
            size_t len = strlen(fields[i].key);

            if (strncmp(text, fields[i].key, len) == 0) {
                uint64_t kib = strtoull(text + len, NULL, 10);

                *(uint64_t *)((char *)health + fields[i].offset) = kib * 1024;
            }
        }
    }
}

/* "0.52" is 520; *@at moves on to what follows the number. */
static uint32_t read_milli(const char **at)
{
    unsigned long whole = strtoul(*at, (char **)at, 10), part = 0;

    if (**at == '.') {
        ++*at;
        for (unsigned digit = 100; **at >= '0' && **at <= '9'; ++*at, digit /= 10) {
            part += digit * (unsigned)(**at - '0');
        }
    }
    return (uint32_t)(MIN(whole, 1000000ul) * 1000 + part);
}

void health_read_load(const char *text, lima_guest_v1_Health *health)
{
    const char *slash;

    health->load1_milli = read_milli(&text);
    health->load5_milli = read_milli(&text);
    health->load15_milli = read_milli(&text);
    slash = strchr(text, '/'); /* "running/all" */
    if (slash) {
        health->processes = (uint32_t)strtoul(slash + 1, NULL, 10);
    }
}

static void read_disk(lima_guest_v1_Health *health)
{
    struct statvfs fs;

    if (statvfs("/", &fs) == 0) {
        health->disk_total = (uint64_t)fs.f_blocks * fs.f_frsize;
        health->disk_available = (uint64_t)fs.f_bavail * fs.f_frsize;
    }
}

static void read_own_memory(lima_guest_v1_Health *health)
{
    scoped(free) char *text = files_read("/proc/self/statm", TEXT_MAX, NULL);
    const char *second = text ? strchr(text, ' ') : NULL;

    if (second) {
        uint64_t pages = strtoull(second, NULL, 10);

        health->agent_rss_kib = (uint32_t)(pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024);
    }
}

void health_fill(lima_guest_v1_Health *health, const struct health_options *options)
{
    scoped(free) char *load = files_read("/proc/loadavg", TEXT_MAX, NULL);
    scoped(free) char *memory = files_read("/proc/meminfo", TEXT_MAX, NULL);

    health->uptime_ms = loop_now_us() / 1000;
    health_read_load(load ? load : "", health);
    health_read_memory(memory ? memory : "", health);
    read_disk(health);
    read_own_memory(health);
    health->agent_streams = (uint32_t)options->streams(options->arg);
    wire_text(health->port_method, sizeof(health->port_method), options->port_method);
}

int health_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    lima_guest_v1_Health health = lima_guest_v1_Health_init_zero;

    health_fill(&health, arg);
    mux_stream_consumed(call->stream, call->rest_len);
    rpc_answer(call->stream, lima_guest_v1_Health_fields, &health);
    return 0;
}
