// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Some programs, such as DPDK, look up the physical address of huge pages
 * before they map them for a device. In ZONE_MOVABLE, pinning would then move
 * the pages and leave the program with the address of other memory, which
 * group.c refuses. So huge pages are pinned briefly when they are mmap'ed: that
 * moves them to where they can stay.
 */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/io_uring.h>
#include <linux/magic.h>

#include "preload.h"

/* The size limit that Linux has for one io_uring buffer */
#define BUFFER_MAX	0x40000000UL

/* Before Linux 6.5, the kernel gets it wrong and logs a warning. */
bool pinning_moves_huge_pages(void)
{
	unsigned int major, minor;
	struct utsname name;

	return uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 5));
}

static bool is_huge(int flags, int fd)
{
	struct statfs fs;

	if (flags & MAP_HUGETLB)
		return true;
	return !(flags & MAP_ANONYMOUS) && fstatfs(fd, &fs) == 0 &&
	       fs.f_type == HUGETLBFS_MAGIC;
}

/*
 * Registering memory as an io_uring buffer pins it, which any program may do.
 */
static int pin_once(void *address, size_t length)
{
	struct io_uring_params params = { 0 };
	struct iovec buffer;
	int ring, ret = 0;

	ring = syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0)
		return -1;
	while (!ret && length) {
		buffer.iov_base = address;
		buffer.iov_len = length < BUFFER_MAX ? length : BUFFER_MAX;
		ret = syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) ||
		      syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
		address = (char *)address + buffer.iov_len;
		length -= buffer.iov_len;
	}
	close(ring);
	return ret;
}

static void *settled(void *address, size_t length, int prot, int flags, int fd)
{
	int error = errno;

	if (address != MAP_FAILED && (flags & MAP_POPULATE) && (prot & PROT_WRITE) &&
	    is_huge(flags, fd) && pinning_moves_huge_pages() &&
	    pin_once(address, length) && debugging())
		report("huge pages at %p may move when they are mapped for a device: %m", address);
	errno = error;
	return address;
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return settled(NEXT(mmap)(address, length, prot, flags, fd, offset),
		       length, prot, flags, fd);
}

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return settled(NEXT(mmap64)(address, length, prot, flags, fd, offset),
		       length, prot, flags, fd);
}
