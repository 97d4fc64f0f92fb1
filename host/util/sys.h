/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about the host. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Lima's names: x86_64, aarch64, armv7l, ppc64le, riscv64, s390x; "" for anything else. */
const char *sys_arch(void);
int sys_cpus(void);         /* logical CPUs that this process may use */
int64_t sys_memory(void);   /* bytes of RAM */
const char *sys_user(void); /* name of the effective user; borrowed */
uid_t sys_uid(void);
/* IANA zone name as /etc/timezone or /etc/localtime give it, or "". Caller frees. */
char *sys_timezone(void);
/* /etc/machine-id, else the host name. Caller frees. */
char *sys_machine_id(void);
/* True when the path is on NFS. */
bool sys_on_nfs(const char *path);
