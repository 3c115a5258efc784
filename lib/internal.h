/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libnoiommufd, inside. What several files use begins with noiommufd__, so that it
 * is no symbol of a program that is linked with the static library.
 *
 * Locks: noiommufd_device::lock guards what can change in a device, noiommufd_ioas's
 * what is mapped in it; counts of references are atomic; all else is written once,
 * before others can see it.
 */
#ifndef NOIOMMUFD_INTERNAL_H
#define NOIOMMUFD_INTERNAL_H

#include <errno.h>
#include <pthread.h>

#include <libnoiommufd.h>

#define OUR_DRIVER	"noiommu-vfio-pci"
/* Of noiommufd_info::address */
#define ADDRESS_SIZE	32
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* An open iommufd, with the IOASes and devices in it */
struct noiommufd_context {
	int fd;
	unsigned int refs;
	bool no_runs;		/* it has no GET_PA_RUNS; atomic */
};

struct noiommufd_ioas {
	struct noiommufd_context *context;
	__u32 id;
	unsigned int refs;
	unsigned int forks;
	int lock;				/* of lock_ioas(); guards what follows */
	struct noiommufd_dma *dmas;		/* all that is mapped, the oldest first */
	struct noiommufd_dma **last;		/* where the next one is put */
	__u64 index;				/* of index.c; atomic; 0: not yet */
	struct noiommufd_level *levels;
	struct noiommufd_kept *kept;		/* handover.c guards it */
};

struct noiommufd_dma {
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *next;		/* in that IOAS, and who points here */
	struct noiommufd_dma **prev;
	void *va;
	__u64 size;
	__u64 iova;
	bool iova_is_pa;
	size_t allocated;	/* bytes from @va on that are ours to free */
	struct noiommufd_kept *kept;	/* it can be handed over */
	unsigned int shift;	/* of what an entry covers */
	__u64 table[];		/* physical addresses */
};

/* Memory that can be handed over: that of a file */
struct noiommufd_kept {
	struct noiommufd_kept *next;
	struct noiommufd_dma *dma;
	int fd;
	void *va;
	size_t size;
	__u64 iova;				/* in the IOAS, if it is mapped already */
	char label[];
};

struct noiommufd_device {
	struct noiommufd_info info;
	__u64 offsets[NOIOMMUFD_REGIONS];	/* of regions in the file */
	int fd;
	unsigned int forks;
	pthread_mutex_t lock;			/* guards what follows */
	struct noiommufd_context *context;	/* bound */
	struct noiommufd_ioas *ioas;		/* attached */
	void *bars[NOIOMMUFD_BAR5 + 1];
	enum noiommufd_irq irq_kind;
	unsigned int nr_irqs;
	int *irqs;				/* eventfds */
	struct noiommufd_handover *handover;	/* handover.c guards it */
};

/* Store the errno, explain the failure, and return -1. */
__attribute__((format(printf, 2, 3)))
int noiommufd__fail(int error, const char *format, ...);

/* How often this process is a child of the one that it began as */
extern unsigned int noiommufd__forks;

/* Does a handle belong to this process? If not, the errno is ESTALE. */
bool noiommufd__owned(unsigned int forks, const char *function);

/* Fails with EINVAL, because of the arguments of the function that calls it. */
#define invalid() \
	noiommufd__fail(EINVAL, "%s(): an argument is NULL or out of its range.", __func__)
#define owned(handle) \
	((handle)->forks == noiommufd__forks || noiommufd__owned((handle)->forks, __func__))
/* The same for a device, which must not be NULL, and has to be bound as well */
#define usable(dev) \
	(((dev) && (dev)->forks == noiommufd__forks && \
	  __atomic_load_n(&(dev)->context, __ATOMIC_ACQUIRE)) || \
	 noiommufd__usable(dev, __func__))

/* Take a lock that is held; wake one who waits for it. */
void noiommufd__wait(int *lock);
void noiommufd__wake(int *lock);

static inline void *null(int failed)
{
	(void)failed;
	return NULL;
}

static inline void get(unsigned int *refs)
{
	__atomic_add_fetch(refs, 1, __ATOMIC_RELAXED);
}

/* The physical address @offset bytes from the beginning of memory, which is longer */
static inline __u64 noiommufd__lookup(const struct noiommufd_dma *dma, __u64 offset)
{
	__u64 mask = (1ULL << dma->shift) - 1;

	return dma->table[offset >> dma->shift] + (offset & mask);
}

/*
 * Not a mutex, because pthread's takes some fifty instructions more, each time memory is
 * mapped or freed. 0: free; 1: held; 2: held, and somebody may wait.
 */
static inline void lock_ioas(struct noiommufd_ioas *ioas)
{
	int state = 0;

	if (__atomic_compare_exchange_n(&ioas->lock, &state, 1, false, __ATOMIC_ACQUIRE,
					__ATOMIC_RELAXED))
		return;
	noiommufd__wait(&ioas->lock);
}

static inline void unlock_ioas(struct noiommufd_ioas *ioas)
{
	if (__atomic_exchange_n(&ioas->lock, 0, __ATOMIC_RELEASE) == 2)
		noiommufd__wake(&ioas->lock);
}

/* Was that the last reference? */
static inline bool put(unsigned int *refs)
{
	return !__atomic_sub_fetch(refs, 1, __ATOMIC_ACQ_REL);
}

bool noiommufd__usable(struct noiommufd_device *dev, const char *function);

/* Find a device, and fill in what sysfs knows of it. */
int noiommufd__find(const char *name, struct noiommufd_info *info);
/* Open a node, or explain why that fails. */
int noiommufd__open(const char *path, bool is_device);
/* An array of @num addresses, in one block, for the caller to fill in */
char **noiommufd__addresses(size_t num);

/* Fill in what the kernel knows of a device that is bound; stores the errno. */
int noiommufd__get_info(struct noiommufd_device *dev);

void noiommufd__put_context(struct noiommufd_context *context);
void noiommufd__put_ioas(struct noiommufd_ioas *ioas);
/* The run at @iova, of @length at most, which becomes its own; 0, or a negative errno */
int noiommufd__first_run(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
			 struct noiommufd_run *run);
/* noiommufd_ioas_runs(), but returns a negative errno, and explains nothing */
int noiommufd__runs(struct noiommufd_ioas *ioas, __u64 iova, __u64 *length,
		    struct noiommufd_run *runs, unsigned int num);
/* Have the IOAS know of memory; 0, or -ENOMEM or -ENOSPC. And no more */
int noiommufd__add(struct noiommufd_ioas *ioas, struct noiommufd_dma *dma);
void noiommufd__remove(struct noiommufd_ioas *ioas, struct noiommufd_dma *dma);
void noiommufd__free_index(struct noiommufd_ioas *ioas);
/* Explain that errno. */
int noiommufd__not_translated(int error);
int noiommufd__not_mapped(int error, size_t size);

/* Map memory, or, if it is @mapped, find out where it is: 0 or a negative errno. */
int noiommufd__map_kept(struct noiommufd_ioas *ioas, struct noiommufd_kept *kept,
			bool mapped);
/* This is a child now. */
void noiommufd__forked(void);
/* The memory is being freed. */
void noiommufd__drop(struct noiommufd_ioas *ioas, struct noiommufd_kept *kept);
/* The device is being closed. */
void noiommufd__end_handover(struct noiommufd_handover *handover);

#endif
