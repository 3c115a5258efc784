/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A kernel with a device, for libnoiommufd: files in place of sysfs and of the nodes,
 * and an ioctl() of our own. It pins nothing, and makes addresses up.
 */
#ifndef FAKE_H
#define FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/types.h>

#define FAKE_DEVICE	"0000:00:05.0"

/* 0: none fails; n: the n-th allocation or system call from here on, with ENOMEM */
extern int until_failure;
/* Addresses of pages that are no neighbours, and a kernel without GET_PA_RUNS */
extern bool scattered, as_mainline;

void fake_kernel(void);
/* The physical address that it makes up for a byte of the process */
__u64 fake_pa(const void *va);
/* Mappings, IOASes, and bytes that the program has from mmap() */
long long fake_left(void);

/* In place of the functions of libc */
int __wrap_ioctl(int fd, unsigned long request, ...);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t num, size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __real_eventfd(unsigned int count, int flags);
int __wrap_eventfd(unsigned int count, int flags);
void *__real_mmap(void *va, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *va, size_t size, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *va, size_t size);
int __wrap_munmap(void *va, size_t size);

#endif
