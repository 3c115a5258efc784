// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Handover: a device, its memory and its interrupts outlive the process that drives
 * them, because another process holds the files.
 *
 * The description is in a file as well, in two slots. The newest one whose files are
 * all there counts, so a process may be killed while it writes one, and before it
 * has given away the files that the new one names.
 *
 * A process that drives the device has a lock on that file. The files that are handed
 * over are the same open files in all processes, and a lock would stay with them; so
 * it is taken through one that is opened anew.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <noiommufd/iommufd.h>

#include "description.h"
#include "internal.h"

#define SLOT_SIZE	65536
/* In place of noiommufd__forks: not this process's yet, so freeing changes nothing. */
#define NOBODY		(~0U)
#define MEMORY		"memory."

struct noiommufd_handover {
	int state;		/* the file; the one that is handed over */
	int lock;		/* the same file, opened anew */
	unsigned int slot;	/* of the description that counts */
	__u64 sequence;
};

/* Guards noiommufd_ioas::kept, noiommufd_device::handover; before the lock of a device */
static pthread_mutex_t keep_lock = PTHREAD_MUTEX_INITIALIZER;

/* In a child: another thread of the parent may have had it. */
void noiommufd__forked(void)
{
	pthread_mutex_init(&keep_lock, NULL);
}

/* Memory */

static struct noiommufd_kept *new_kept(const char *label)
{
	struct noiommufd_kept *kept = calloc(1, sizeof(*kept) + strlen(label) + 1);

	if (!kept)
		return null(noiommufd__fail(ENOMEM, "Out of memory."));
	memcpy(kept->label, label, strlen(label));
	kept->fd = -1;
	return kept;
}

static void free_kept(struct noiommufd_kept *kept)
{
	if (kept->va)
		munmap(kept->va, kept->size);
	if (kept->fd >= 0)
		close(kept->fd);
	free(kept);
}

void noiommufd__drop(struct noiommufd_ioas *ioas, struct noiommufd_kept *kept)
{
	struct noiommufd_kept **at = &ioas->kept;

	/* In a child: another thread of the parent may have had the lock. */
	if (ioas->forks == noiommufd__forks) {
		pthread_mutex_lock(&keep_lock);
		while (*at != kept)
			at = &(*at)->next;
		*at = kept->next;
		pthread_mutex_unlock(&keep_lock);
	}
	/* noiommufd_free() has unmapped it. */
	kept->va = NULL;
	free_kept(kept);
}

static struct noiommufd_kept *find_kept(const struct noiommufd_ioas *ioas, const char *label)
{
	struct noiommufd_kept *kept = ioas->kept;

	while (kept && strcmp(kept->label, label))
		kept = kept->next;
	return kept;
}

static int map_file(struct noiommufd_kept *kept)
{
	void *va = mmap(NULL, kept->size, PROT_READ | PROT_WRITE, MAP_SHARED, kept->fd, 0);

	if (va == MAP_FAILED)
		return -1;
	kept->va = va;
	/* As noiommufd_alloc() */
	return madvise(va, kept->size, MADV_DONTFORK);
}

/* A file of that size, which stays so, and its memory; in huge pages if @huge */
static int make_file(struct noiommufd_kept *kept, bool huge)
{
	kept->fd = memfd_create(kept->label, MFD_CLOEXEC | MFD_ALLOW_SEALING |
				(huge ? MFD_HUGETLB : 0));
	if (kept->fd >= 0 && !ftruncate(kept->fd, kept->size) &&
	    !fcntl(kept->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) &&
	    !map_file(kept))
		return 0;
	if (kept->fd >= 0)
		close(kept->fd);
	kept->fd = -1;
	return -1;
}

static struct noiommufd_dma *make_kept(struct noiommufd_ioas *ioas, const char *label,
				       size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE), huge = page * (page / sizeof(__u64));
	struct noiommufd_kept *kept;
	int rc;

	if (find_kept(ioas, label))
		return null(noiommufd__fail(EEXIST, "There is memory \"%s\" already.", label));
	kept = new_kept(label);
	if (!kept)
		return NULL;
	kept->size = (size + page - 1) & -page;
	rc = kept->size % huge || make_file(kept, true) ? make_file(kept, false) : 0;
	rc = rc ? -errno : noiommufd__map_kept(ioas, kept, false);
	if (rc) {
		free_kept(kept);
		return null(noiommufd__not_mapped(-rc, size));
	}
	kept->next = ioas->kept;
	ioas->kept = kept;
	return kept->dma;
}

struct noiommufd_dma *noiommufd_alloc_labelled(struct noiommufd_ioas *ioas,
					       const char *label, size_t size)
{
	struct noiommufd_dma *dma;

	if (!ioas || !label || !size || !noiommufd__is_label(label))
		return null(invalid());
	if (!owned(ioas))
		return NULL;
	if (size > SIZE_MAX / 2)
		return null(noiommufd__not_mapped(ENOMEM, size));
	pthread_mutex_lock(&keep_lock);
	dma = make_kept(ioas, label, size);
	pthread_mutex_unlock(&keep_lock);
	return dma;
}

struct noiommufd_dma *noiommufd_labelled(struct noiommufd_ioas *ioas, const char *label)
{
	struct noiommufd_kept *kept;

	if (!ioas || !label)
		return null(invalid());
	if (!owned(ioas))
		return NULL;
	pthread_mutex_lock(&keep_lock);
	kept = find_kept(ioas, label);
	pthread_mutex_unlock(&keep_lock);
	return kept ? kept->dma :
	       null(noiommufd__fail(ENOENT, "There is no memory \"%.64s\".", label));
}

/* A hash of the physical addresses, page by page */
static __u64 where(const struct noiommufd_dma *dma)
{
	size_t page = sysconf(_SC_PAGESIZE), size = noiommufd_size(dma), at;
	const char *va = noiommufd_va(dma);
	__u64 hash = 0;

	for (at = 0; at < size; at += page)
		hash = (hash ^ noiommufd_pa(dma, va + at)) * 0x100000001b3ULL;
	return hash;
}

static int own_memory(void)
{
	return noiommufd__fail(EOPNOTSUPP,
			       "Memory of noiommufd_map() and noiommufd_alloc() is this process's own and ends with it, so the device cannot be handed over: use noiommufd_alloc_labelled().");
}

/* Is all that is mapped memory with a label? */
static bool all_kept(struct noiommufd_ioas *ioas)
{
	const struct noiommufd_dma *dma;

	lock_ioas(ioas);
	for (dma = ioas->dmas; dma && dma->kept; dma = dma->next)
		;
	unlock_ioas(ioas);
	return !dma;
}

/*
 * Charge this process for the memory of the context, in place of the one that pays
 * for it now. For memory of a process, the kernel refuses that.
 */
static int take_charge(struct noiommufd_ioas *ioas)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };

	if (!ioctl(ioas->context->fd, IOMMU_IOAS_CHANGE_PROCESS, &change))
		return 0;
	if (errno == EINVAL)
		return own_memory();
	if (errno == ENOMEM)
		return noiommufd__fail(ENOMEM,
				       "The memory is more than this user's limit for locked memory, or than the rest of it: until all of it is taken over, a part counts twice. Raise the limit (`ulimit -l`, LimitMEMLOCK= of a service).");
	return noiommufd__fail(errno, "Cannot take the memory over: %m.");
}

/* The description's file */

void noiommufd__end_handover(struct noiommufd_handover *handover)
{
	if (!handover)
		return;
	if (handover->state >= 0)
		close(handover->state);
	if (handover->lock >= 0)
		close(handover->lock);
	free(handover);
}

/* One of this process, of @state, which becomes its own */
static struct noiommufd_handover *begin_handover(int state)
{
	struct noiommufd_handover *handover = malloc(sizeof(*handover));
	char path[64];

	if (!handover) {
		if (state >= 0)
			close(state);
		return null(noiommufd__fail(ENOMEM, "Out of memory."));
	}
	*handover = (struct noiommufd_handover){ .state = state, .lock = -1 };
	if (state >= 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", state);
		handover->lock = open(path, O_RDWR | O_CLOEXEC);
	}
	if (handover->lock < 0)
		noiommufd__fail(errno, "Cannot open the description: %m.");
	else if (!flock(handover->lock, LOCK_EX | LOCK_NB))
		return handover;
	else if (errno == EWOULDBLOCK)
		noiommufd__fail(EBUSY,
				"Another process has this device still, or this one has it already: end that one first.");
	else
		noiommufd__fail(errno, "Cannot lock the description: %m.");
	noiommufd__end_handover(handover);
	return NULL;
}

static struct noiommufd_handover *new_handover(void)
{
	int state = memfd_create("noiommufd-state", MFD_CLOEXEC);

	if (state >= 0 && ftruncate(state, 2 * SLOT_SIZE)) {
		close(state);
		state = -1;
	}
	return begin_handover(state);
}

/* Saving */

static int describe_memory(struct description *d, const struct noiommufd_kept *kept)
{
	struct described_memory *memory = &d->memory[d->nr_memory++];
	struct stat st;

	if (fstat(kept->fd, &st))
		return -1;
	memcpy(memory->label, kept->label, strlen(kept->label));
	memory->file_dev = st.st_dev;
	memory->file_ino = st.st_ino;
	memory->size = kept->size;
	memory->iova = noiommufd_iova(kept->dma);
	memory->where = where(kept->dma);
	return 0;
}

static int describe(const struct noiommufd_device *dev, struct description *d)
{
	const struct noiommufd_kept *kept;

	memcpy(d->address, dev->info.address, sizeof(d->address));
	d->vendor = dev->info.vendor;
	d->device = dev->info.device;
	d->subsystem_vendor = dev->info.subsystem_vendor;
	d->subsystem_device = dev->info.subsystem_device;
	d->ioas = dev->ioas->id;
	d->irq_kind = dev->irq_kind;
	d->nr_irqs = dev->nr_irqs;
	for (kept = dev->ioas->kept; kept; kept = kept->next) {
		if (d->nr_memory == MAX_LABELLED)
			return noiommufd__fail(E2BIG,
					       "Only %u pieces of memory can be handed over.",
					       MAX_LABELLED);
		if (describe_memory(d, kept))
			return noiommufd__fail(errno, "Cannot find memory \"%s\": %m.",
					       kept->label);
	}
	return 0;
}

/* Into the slot that does not count; then that one does. */
static int write_state(struct noiommufd_handover *handover, struct description *d)
{
	unsigned int slot = !handover->slot;

	d->sequence = handover->sequence + 1;
	noiommufd__seal(d);
	if (pwrite(handover->state, d, d->size, slot * SLOT_SIZE) != (ssize_t)d->size)
		return noiommufd__fail(errno ? errno : EIO,
				       "Cannot write what a successor has to know: %m.");
	handover->slot = slot;
	handover->sequence++;
	return 0;
}

static int save(struct noiommufd_device *dev)
{
	struct description *d;
	int rc;

	if (!dev->handover)
		dev->handover = new_handover();
	if (!dev->handover)
		return -1;
	d = calloc(1, SLOT_SIZE);
	if (!d)
		return noiommufd__fail(ENOMEM, "Out of memory.");
	rc = describe(dev, d);
	if (!rc)
		rc = write_state(dev->handover, d);
	free(d);
	return rc;
}

/* Files for the holder, of which there is room for @num */
struct list {
	struct noiommufd_file *files;
	unsigned int num;
	unsigned int nr;
};

__attribute__((format(printf, 3, 4)))
static void add(struct list *list, int fd, const char *format, ...)
{
	struct noiommufd_file *file = &list->files[list->nr];
	va_list args;

	if (list->nr++ >= list->num)
		return;
	file->fd = fd;
	va_start(args, format);
	vsnprintf(file->name, sizeof(file->name), format, args);
	va_end(args);
}

static void list_files(const struct noiommufd_device *dev, struct list *list)
{
	const struct noiommufd_kept *kept;
	unsigned int i;

	add(list, dev->context->fd, "iommufd");
	add(list, dev->fd, "device");
	for (kept = dev->ioas->kept; kept; kept = kept->next)
		add(list, kept->fd, MEMORY "%s", kept->label);
	for (i = 0; i < dev->nr_irqs; i++)
		add(list, dev->irqs[i], "irq%u", i);
	/* The last: who has it has all. */
	add(list, dev->handover->state, "state");
}

int noiommufd_save(struct noiommufd_device *dev, struct noiommufd_file *files,
		   unsigned int num)
{
	struct list list = { .files = files, .num = num };
	int rc;

	if (!dev || (num && !files))
		return invalid();
	if (!usable(dev))
		return -1;
	pthread_mutex_lock(&keep_lock);
	pthread_mutex_lock(&dev->lock);
	if (!dev->ioas)
		rc = noiommufd__fail(EINVAL, "%s is not attached.", dev->info.address);
	else
		rc = all_kept(dev->ioas) ? take_charge(dev->ioas) : own_memory();
	if (!rc)
		rc = save(dev);
	if (!rc)
		list_files(dev, &list);
	pthread_mutex_unlock(&dev->lock);
	pthread_mutex_unlock(&keep_lock);
	return rc ? -1 : (int)list.nr;
}

/* Resuming */

/* What a successor has */
struct given {
	const struct noiommufd_file *files;
	unsigned int num;
};

__attribute__((format(printf, 2, 3)))
static int find_file(const struct given *given, const char *format, ...)
{
	char name[sizeof(given->files->name)];
	unsigned int i;
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	for (i = 0; i < given->num; i++)
		if (!strncmp(given->files[i].name, name, sizeof(name)))
			return given->files[i].fd;
	return noiommufd__fail(ENOENT,
			       "The holder has no file \"%s\": it has lost it, or the predecessor ended before it had handed all over. Begin anew.",
			       name);
}

static int duplicate(int fd)
{
	if (fd < 0)
		return -1;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? noiommufd__fail(errno, "There is no file descriptor for that: %m.") : fd;
}

/* Copies of the files; the caller's stay the caller's. */
static int open_files(struct noiommufd_device *dev, const struct description *d,
		      const struct given *given)
{
	struct noiommufd_kept *kept;
	__u32 i;

	dev->context->fd = duplicate(find_file(given, "iommufd"));
	dev->fd = duplicate(find_file(given, "device"));
	if (dev->context->fd < 0 || dev->fd < 0)
		return -1;
	for (i = 0; i < d->nr_memory; i++) {
		kept = new_kept(d->memory[i].label);
		if (!kept)
			return -1;
		kept->next = dev->ioas->kept;
		dev->ioas->kept = kept;
		kept->size = d->memory[i].size;
		kept->iova = d->memory[i].iova;
		kept->fd = duplicate(find_file(given, MEMORY "%s", kept->label));
		if (kept->fd < 0)
			return -1;
	}
	if (!d->nr_irqs)
		return 0;
	dev->irqs = calloc(d->nr_irqs, sizeof(*dev->irqs));
	if (!dev->irqs)
		return noiommufd__fail(ENOMEM, "Out of memory.");
	dev->irq_kind = d->irq_kind;
	for (; dev->nr_irqs < d->nr_irqs; dev->nr_irqs++) {
		dev->irqs[dev->nr_irqs] = duplicate(find_file(given, "irq%u", dev->nr_irqs));
		if (dev->irqs[dev->nr_irqs] < 0)
			return -1;
	}
	return 0;
}

static struct noiommufd_device *new_device(void)
{
	struct noiommufd_device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return NULL;
	dev->ioas = calloc(1, sizeof(*dev->ioas));
	dev->context = calloc(1, sizeof(*dev->context));
	if (!dev->ioas || !dev->context) {
		free(dev->ioas);
		free(dev->context);
		free(dev);
		return NULL;
	}
	pthread_mutex_init(&dev->lock, NULL);
	dev->fd = -1;
	dev->forks = NOBODY;
	dev->ioas->forks = NOBODY;
	dev->ioas->last = &dev->ioas->dmas;
	dev->ioas->refs = 1;
	dev->ioas->context = dev->context;
	dev->context->fd = -1;
	dev->context->refs = 2;
	return dev;
}

/* The opposite, which leaves the device and the IOAS as they are */
static void give_up(struct noiommufd_device *dev)
{
	struct noiommufd_kept *kept, *next;

	for (kept = dev->ioas->kept; kept; kept = next) {
		next = kept->next;
		if (kept->va)
			munmap(kept->va, kept->size);
		kept->va = NULL;
		/* Which has its memory dropped */
		if (kept->dma)
			noiommufd_free(kept->dma);
		else
			free_kept(kept);
	}
	noiommufd_close(dev);
}

/* Is it the device that is described? */
static int identify(struct noiommufd_device *dev, const struct description *d)
{
	struct noiommufd_info here = { 0 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", dev->fd);
	if (noiommufd__find(path, &here) || noiommufd__find(here.address, &dev->info))
		return -1;
	if (strcmp(here.address, d->address) || here.vendor != d->vendor ||
	    here.device != d->device || here.subsystem_vendor != d->subsystem_vendor ||
	    here.subsystem_device != d->subsystem_device)
		return noiommufd__fail(ENODEV,
				       "The description is of the device %s (%04x:%04x), but the file of %s (%04x:%04x).",
				       d->address, d->vendor, d->device, here.address,
				       here.vendor, here.device);
	if (noiommufd__get_info(dev))
		return noiommufd__fail(errno, "Cannot ask %s about itself: %m.",
				       dev->info.address);
	return 0;
}

static int other_memory(const char *label)
{
	return noiommufd__fail(EBADF,
			       "The file \"memory.%s\" is not the memory that the predecessor had mapped.",
			       label);
}

static int take_memory(struct noiommufd_ioas *ioas, struct noiommufd_kept *kept,
		       const struct described_memory *memory)
{
	struct stat st;
	int rc;

	/* The same file has the same size. */
	if (fstat(kept->fd, &st) || st.st_dev != memory->file_dev ||
	    st.st_ino != memory->file_ino)
		return other_memory(kept->label);
	if (map_file(kept))
		return noiommufd__fail(errno, "Cannot map memory \"%s\": %m.", kept->label);
	rc = noiommufd__map_kept(ioas, kept, true);
	/* Another IOAS, or other memory at that place */
	if (rc == -ENOENT || (!rc && where(kept->dma) != memory->where))
		return other_memory(kept->label);
	return rc ? noiommufd__not_mapped(-rc, kept->size) : 0;
}

static int are_eventfds(const struct noiommufd_device *dev)
{
	char path[64];
	unsigned int i;

	for (i = 0; i < dev->nr_irqs; i++) {
		char target[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", dev->irqs[i]);
		if (readlink(path, target, sizeof(target) - 1) < 0 ||
		    !strstr(target, "[eventfd]"))
			return noiommufd__fail(EBADF,
					       "The file \"irq%u\" is not that of an interrupt.",
					       i);
	}
	return 0;
}

static int take_over(struct noiommufd_device *dev, const struct description *d,
		     const struct given *given)
{
	struct noiommufd_kept *kept;
	__u32 i = d->nr_memory;

	dev->ioas->id = d->ioas;
	if (open_files(dev, d, given) || identify(dev, d) || are_eventfds(dev))
		return -1;
	/* The list is in the opposite order. */
	for (kept = dev->ioas->kept; kept; kept = kept->next)
		if (take_memory(dev->ioas, kept, &d->memory[--i]))
			return -1;
	/* Nothing can fail after this. */
	return take_charge(dev->ioas);
}

/* Are the files there that it names? Explains nothing. */
static bool all_there(const struct description *d, const struct given *given)
{
	char name[sizeof(given->files->name)];
	__u32 i, file, found = 0;

	for (i = 0; i < d->nr_memory; i++) {
		snprintf(name, sizeof(name), MEMORY "%s", d->memory[i].label);
		for (file = 0; file < given->num; file++)
			if (!strncmp(given->files[file].name, name, sizeof(name)))
				break;
		found += file < given->num;
	}
	return found == d->nr_memory;
}

static bool is_better(const struct description *d, const struct description *other,
		      const struct given *given)
{
	bool there = all_there(d, given);

	return there == all_there(other, given) ? d->sequence > other->sequence : there;
}

static int not_readable(int error)
{
	if (error == EPROTONOSUPPORT)
		return noiommufd__fail(error,
				       "The description is one of another version of libnoiommufd: end the program that wrote it, have the holder close the files, and begin anew.");
	return noiommufd__fail(error,
			       "The description is damaged: have the holder close the files, and begin anew.");
}

/* The description that counts: the newest, or else the one before */
static struct description *read_state(struct noiommufd_handover *handover,
				      const struct given *given)
{
	struct description *slots[2] = { calloc(1, SLOT_SIZE), calloc(1, SLOT_SIZE) };
	int error = EBADMSG, best = -1, slot;

	for (slot = 0; slots[0] && slots[1] && slot < 2; slot++) {
		ssize_t length = pread(handover->lock, slots[slot], SLOT_SIZE,
				       slot * SLOT_SIZE);
		int rc = noiommufd__check(slots[slot], length < 0 ? 0 : length);
		__u64 sequence = slots[slot]->sequence;

		if (rc == -EPROTONOSUPPORT)
			error = -rc;
		if (rc)
			continue;
		if (best < 0 || is_better(slots[slot], slots[best], given))
			best = slot;
		if (sequence > handover->sequence)
			handover->sequence = sequence;
	}
	if (!slots[0] || !slots[1])
		noiommufd__fail(ENOMEM, "Out of memory.");
	else if (best < 0)
		not_readable(error);
	for (slot = 0; slot < 2; slot++)
		if (slot != best)
			free(slots[slot]);
	handover->slot = best > 0;
	return best < 0 ? NULL : slots[best];
}

static struct noiommufd_device *resume(struct noiommufd_handover *handover,
				       const struct given *given)
{
	struct description *d = read_state(handover, given);
	struct noiommufd_device *dev;

	if (!d)
		return NULL;
	dev = new_device();
	if (!dev) {
		noiommufd__fail(ENOMEM, "Out of memory.");
	} else if (take_over(dev, d, given)) {
		give_up(dev);
		dev = NULL;
	} else {
		dev->handover = handover;
		dev->forks = noiommufd__forks;
		dev->ioas->forks = noiommufd__forks;
	}
	free(d);
	return dev;
}

struct noiommufd_device *noiommufd_resume(const struct noiommufd_file *files,
					  unsigned int num)
{
	const struct given given = { .files = files, .num = num };
	struct noiommufd_handover *handover;
	struct noiommufd_device *dev;
	int state;

	if (!files || !num)
		return null(invalid());
	state = duplicate(find_file(&given, "state"));
	if (state < 0)
		return NULL;
	handover = begin_handover(state);
	if (!handover)
		return NULL;
	dev = resume(handover, &given);
	if (!dev) {
		int error = errno;

		noiommufd__end_handover(handover);
		errno = error;
	}
	return dev;
}
