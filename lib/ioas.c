// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * IO address spaces: the iommufd that they are in, and translation.
 */
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/futex.h>
#include <noiommufd/iommufd.h>

#include "internal.h"

/* Where the kernel may choose an IOVA: no memory has such an address. */
#define IOVA_FIRST	0x2000000000000000ULL
#define IOVA_LAST	0x3fffffffffffffffULL

void noiommufd__wait(int *lock)
{
	int error = errno;

	while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, lock, FUTEX_WAIT_PRIVATE, 2, NULL);
	errno = error;
}

void noiommufd__wake(int *lock)
{
	int error = errno;

	syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, 1);
	errno = error;
}

/* noiommufd's node, or the kernel's for devices of vfio-pci */
static struct noiommufd_context *new_context(const struct noiommufd_device *dev)
{
	struct noiommufd_context *context = calloc(1, sizeof(*context));
	const char *node = "/dev/iommu";

	if (!context)
		return null(noiommufd__fail(ENOMEM, "Out of memory."));
	if (!strcmp(dev->info.driver, OUR_DRIVER) && !access("/dev/noiommufd", F_OK))
		node = "/dev/noiommufd";
	context->refs = 1;
	context->fd = noiommufd__open(node, false);
	if (context->fd < 0) {
		free(context);
		return NULL;
	}
	return context;
}

void noiommufd__put_context(struct noiommufd_context *context)
{
	if (!put(&context->refs))
		return;
	close(context->fd);
	free(context);
}

static int alloc_ioas(struct noiommufd_ioas *ioas)
{
	struct iommu_iova_range range = { .start = IOVA_FIRST, .last = IOVA_LAST };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow),
		.num_iovas = 1,
		.allowed_iovas = (uintptr_t)&range,
	};

	if (ioctl(ioas->context->fd, IOMMU_IOAS_ALLOC, &alloc))
		return noiommufd__fail(errno, "Cannot allocate an IO address space: %m.");
	ioas->id = alloc.out_ioas_id;
	/* So that none of them is in the way of an IOVA that is an address. */
	allow.ioas_id = ioas->id;
	if (!ioctl(ioas->context->fd, IOMMU_IOAS_ALLOW_IOVAS, &allow))
		return 0;
	return noiommufd__fail(errno, "Cannot set up an IO address space: %m.");
}

struct noiommufd_ioas *noiommufd_ioas_alloc(struct noiommufd_device *dev)
{
	struct noiommufd_ioas *ioas;

	if (!dev)
		return null(invalid());
	if (!owned(dev))
		return NULL;
	ioas = calloc(1, sizeof(*ioas));
	if (!ioas)
		return null(noiommufd__fail(ENOMEM, "Out of memory."));
	ioas->last = &ioas->dmas;
	ioas->refs = 1;
	ioas->forks = noiommufd__forks;
	ioas->context = __atomic_load_n(&dev->context, __ATOMIC_ACQUIRE);
	if (ioas->context)
		get(&ioas->context->refs);
	else
		ioas->context = new_context(dev);
	if (!ioas->context) {
		free(ioas);
		return NULL;
	}
	if (alloc_ioas(ioas)) {
		noiommufd_ioas_free(ioas);
		return NULL;
	}
	return ioas;
}

static void destroy(struct noiommufd_ioas *ioas)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy) };

	/* Otherwise it goes with the context. */
	if (ioas->id && ioas->forks == noiommufd__forks) {
		destroy.id = ioas->id;
		ioctl(ioas->context->fd, IOMMU_DESTROY, &destroy);
	}
	noiommufd__free_index(ioas);
	noiommufd__put_context(ioas->context);
	free(ioas);
}

void noiommufd__put_ioas(struct noiommufd_ioas *ioas)
{
	if (put(&ioas->refs))
		destroy(ioas);
}

void noiommufd_ioas_free(struct noiommufd_ioas *ioas)
{
	int error = errno;

	if (ioas)
		noiommufd__put_ioas(ioas);
	errno = error;
}

int noiommufd_ioas_fd(const struct noiommufd_ioas *ioas)
{
	if (!ioas)
		return invalid();
	return ioas->context->fd;
}

__u32 noiommufd_ioas_id(const struct noiommufd_ioas *ioas)
{
	if (!ioas) {
		invalid();
		return 0;
	}
	return ioas->id;
}

/* By one ioctl, which only noiommufd has */
static int ask_runs(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
		    struct noiommufd_run *runs, unsigned int num)
{
	struct noiommufd_ioas_get_pa_runs ask = {
		.size = sizeof(ask),
		.ioas_id = ioas->id,
		.num_runs = num,
		.iova = iova,
		.length = *length,
		.runs = (uintptr_t)runs,
	};

	if (ioctl(ioas->context->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &ask))
		return -errno;
	*length = ask.length;
	return ask.num_runs;
}

/* Returns 0, or a negative errno. */
int noiommufd__first_run(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
			 struct noiommufd_run *run)
{
	struct iommu_ioas_noiommu_get_pa ask = {
		.size = sizeof(ask),
		.ioas_id = ioas->id,
		.iova = iova,
		.length = *length,
	};

	if (ioctl(ioas->context->fd, IOMMU_IOAS_NOIOMMU_GET_PA, &ask))
		return -errno;
	run->phys = ask.out_phys;
	run->length = ask.length;
	*length = ask.length;
	return 0;
}

/* By what Linux 7.3 has: an ioctl for each run of each mapping */
static int ask_each(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
		    struct noiommufd_run *runs, unsigned int num)
{
	__u64 done = 0, more;
	unsigned int nr = 0;
	struct noiommufd_run run;
	int rc;

	while (done < *length) {
		more = *length - done;
		rc = noiommufd__first_run(ioas, iova + done, &more, &run);
		if (rc) {
			if (!nr)
				return rc;
			break;
		}
		if (nr && runs[nr - 1].phys + runs[nr - 1].length == run.phys) {
			runs[nr - 1].length += run.length;
		} else {
			if (nr == num)
				break;
			runs[nr++] = run;
		}
		done += more;
	}
	*length = done;
	return nr;
}

/* Returns runs, or a negative errno. */
int noiommufd__runs(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
		    struct noiommufd_run *runs, unsigned int num)
{
	bool *no_runs = &ioas->context->no_runs;
	int rc;

	if (!__atomic_load_n(no_runs, __ATOMIC_RELAXED)) {
		rc = ask_runs(ioas, iova, length, runs, num);
		if (rc != -ENOTTY)
			return rc;
		__atomic_store_n(no_runs, true, __ATOMIC_RELAXED);
	}
	return ask_each(ioas, iova, length, runs, num);
}

int noiommufd__not_translated(int error)
{
	switch (error) {
	case EPERM:
		return noiommufd__fail(error,
				       "Physical addresses need CAP_SYS_RAWIO: run this as root, or give the program the capability.");
	case EOPNOTSUPP:
		return noiommufd__fail(error,
				       "There are physical addresses only while a device is attached to the IO address space.");
	default:
		return noiommufd__fail(error, "There is no physical address: %m.");
	}
}

int noiommufd_ioas_runs(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
			struct noiommufd_run *runs, unsigned int num)
{
	int rc;

	if (!ioas || !length || !*length || !runs || !num)
		return invalid();
	if (*length - 1 > ~0ULL - iova)
		return noiommufd__fail(EOVERFLOW, "%s(): the range wraps.", __func__);
	if (!owned(ioas))
		return -1;
	/* What it returns */
	if (num > INT_MAX)
		num = INT_MAX;
	rc = noiommufd__runs(ioas, iova, length, runs, num);
	return rc < 0 ? noiommufd__not_translated(-rc) : rc;
}

static int change_grant(struct noiommufd_ioas *ioas, unsigned long request)
{
	struct noiommufd_grant grant = { .size = sizeof(grant) };

	if (!owned(ioas))
		return -1;
	if (!ioctl(ioas->context->fd, request, &grant))
		return 0;
	switch (errno) {
	case EPERM:
		return noiommufd__fail(EPERM,
				       "Physical addresses are granted and revoked with CAP_SYS_RAWIO alone, and not granted while the kernel is locked down.");
	case EOPNOTSUPP:
		return noiommufd__fail(EOPNOTSUPP,
				       "noiommufd allows no grant: put \"options noiommufd allow_grant=1\" into a file of /etc/modprobe.d, and load the module again.");
	case ENOTTY:
		return noiommufd__fail(ENOTTY,
				       "This iommufd has no grants: it is that of Linux 7.3, or of an older noiommufd.");
	default:
		return noiommufd__fail(errno, "Cannot change the grant: %m.");
	}
}

int noiommufd_grant(struct noiommufd_ioas *ioas)
{
	return ioas ? change_grant(ioas, NOIOMMUFD_GRANT) : invalid();
}

int noiommufd_revoke(struct noiommufd_ioas *ioas)
{
	return ioas ? change_grant(ioas, NOIOMMUFD_REVOKE) : invalid();
}
