// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of a file: its seals, and pinning it where the kernel has no function
 * for that, or one that is not safe for all files. No lock is held on entry;
 * mmap_lock of the current process is taken while the file is mapped.
 */
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>

/**
 * noiommufd_memfd_can_pin() - Can memfd_pin_folios() pin the memory of a file?
 * @file: any file
 *
 * Return: true for a regular file of tmpfs or hugetlbfs.
 */
bool noiommufd_memfd_can_pin(struct file *file)
{
	unsigned long magic = file_inode(file)->i_sb->s_magic;

	return S_ISREG(file_inode(file)->i_mode) &&
	       (magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC);
}

/**
 * noiommufd_memfd_sealed_for_write() - Does a seal forbid writing to a file?
 * @file: any file
 *
 * The kernel's own function for this is not exported.
 *
 * Return: true if one does.
 */
bool noiommufd_memfd_sealed_for_write(struct file *file)
{
	struct inode *inode = file_inode(file);
	unsigned int seals = 0;

	if (inode->i_sb->s_magic == TMPFS_MAGIC)
		seals = SHMEM_I(inode)->seals;
#ifdef CONFIG_HUGETLBFS
	else if (inode->i_sb->s_magic == HUGETLBFS_MAGIC)
		seals = HUGETLBFS_I(inode)->seals;
#endif
	return seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
}

/**
 * noiommufd_memfd_folio_is_at() - Is a folio the file's, and where it should
 * be?
 * @memfd: file that noiommufd_memfd_can_pin()
 * @folio: folio that is pinned
 * @index: index that its first page should have in the file, in pages
 *
 * Return: true if it was there in the file while it was pinned.
 */
bool noiommufd_memfd_folio_is_at(struct file *memfd, struct folio *folio,
				 pgoff_t index)
{
#ifdef HAVE_FOLIO
	struct address_space *mapping = READ_ONCE(folio->mapping);
	pgoff_t first = folio->index;
#else
	struct address_space *mapping = READ_ONCE(folio_page(folio, 0)->mapping);
	pgoff_t first = folio_page(folio, 0)->index;
#endif
#ifdef HAVE_HUGETLB_BASEPAGE_INDEX
	struct super_block *sb = file_inode(memfd)->i_sb;

	if (sb->s_magic == HUGETLBFS_MAGIC)
		first <<= sb->s_blocksize_bits - PAGE_SHIFT;
#endif
	return mapping == memfd->f_mapping && first == index;
}

#ifdef memfd_pin_folios
#undef memfd_pin_folios

/*
 * Bytes that are mapped at a time, so many that the cost of mapping is small.
 */
#define MEMFD_WINDOW	(64UL << 20)
#define MEMFD_BATCH	32

/*
 * Of pages of the window, with one pin each, keep the pin of one page for each
 * folio that is the next of the file, and drop the others. Another thread may
 * have mapped something else over the window, or punched a hole: then a folio
 * is not the next one. Returns the number of pages, from the first on, in the
 * folios kept.
 */
static unsigned long keep_folios(struct file *memfd, pgoff_t index,
				 struct page **pages, int nr,
				 struct folio **folios, long *n,
				 unsigned int max_folios, pgoff_t *offset)
{
	unsigned long done = 0;
	int i;

	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);
		unsigned long within = page_to_pfn(pages[i]) -
				       page_to_pfn(folio_page(folio, 0));

		/* One pin keeps the whole folio. */
		if (i < done) {
			unpin_user_page(pages[i]);
			continue;
		}
		if (*n == max_folios || (*n && within) ||
		    !noiommufd_memfd_folio_is_at(memfd, folio,
						 index + i - within))
			break;
		if (!*n)
			*offset += within << PAGE_SHIFT;
		folios[(*n)++] = folio;
		done = i + folio_nr_pages(folio) - within;
	}
	if (i < nr)
		unpin_user_pages(pages + i, nr - i);
	return done;
}

static long pin_window(struct file *memfd, unsigned long va, unsigned long end,
		       pgoff_t index, struct folio **folios,
		       unsigned int max_folios, pgoff_t *offset)
{
	struct page *pages[MEMFD_BATCH];
	long n = 0;

	*offset = offset_in_page(va);
	va &= PAGE_MASK;
	while (va < end && n < max_folios) {
		unsigned long want = (end - va + PAGE_SIZE - 1) >> PAGE_SHIFT;
		unsigned long done;
		int rc;

		if (fatal_signal_pending(current))
			return n ?: -EINTR;
		want = min_t(unsigned long, MEMFD_BATCH, want);
		if (file_inode(memfd)->i_sb->s_magic == HUGETLBFS_MAGIC)
			want = 1;
		rc = noiommufd_pin_user_pages_fast(va, want, FOLL_LONGTERM,
						   pages);
		if (rc < 0)
			return n ?: rc;
		done = keep_folios(memfd, index, pages, rc, folios, &n,
				   max_folios, offset);
		if (!done)
			return n ?: -EAGAIN;
		va += done << PAGE_SHIFT;
		index += done;
		cond_resched();
	}
	return n;
}

/**
 * noiommufd_memfd_pin_folios() - Pin memory of a file of tmpfs or hugetlbfs.
 * @memfd: the file
 * @start: first byte
 * @end: last byte
 * @folios: out: the folios, with one pin each
 * @max_folios: size of that array
 * @offset: out: offset of @start in the first folio, in bytes
 *
 * memfd_pin_folios() of Linux 6.11, by mapping the file into the current
 * process for a moment, which faults pages in and moves them out of where they
 * must not stay. The file is opened again, read-only, so that neither a seal
 * nor the mode of the caller's file prevents the mapping. From 6.11 to 6.16
 * this is for hugetlbfs only, because a mapping reserves the huge pages that it
 * takes.
 *
 * Return: number of folios pinned, perhaps fewer than there are, or a negative
 * errno; -EAGAIN: what was found at @start does not belong to the file.
 */
long noiommufd_memfd_pin_folios(struct file *memfd, loff_t start, loff_t end,
				struct folio **folios, unsigned int max_folios,
				pgoff_t *offset)
{
	struct inode *inode = file_inode(memfd);
	bool hugetlb = inode->i_sb->s_magic == HUGETLBFS_MAGIC;
	unsigned long align = hugetlb ? inode->i_sb->s_blocksize : PAGE_SIZE;
	loff_t first = start & ~((loff_t)align - 1);
	unsigned long length, va;
	struct file *file;
	long n;

	if (!noiommufd_memfd_can_pin(memfd) || start > end ||
	    end >= i_size_read(inode))
		return -EINVAL;
#ifdef HAVE_MEMFD_PIN_FOLIOS
	if (!hugetlb)
		return memfd_pin_folios(memfd, start, end, folios, max_folios,
					offset);
#endif
	length = min_t(u64, end - first + 1, max(MEMFD_WINDOW, align));
	length = (length + align - 1) & ~(align - 1);

	file = dentry_open(&memfd->f_path, O_RDONLY | O_LARGEFILE,
			   current_cred());
	if (IS_ERR(file))
		return PTR_ERR(file);
	va = vm_mmap(file, 0, length, PROT_READ, MAP_SHARED, first);
	fput(file);
	/* EAGAIN: mlockall() makes it count against the limit. */
	if (IS_ERR_VALUE(va))
		return va == -EAGAIN ? -ENOMEM : (long)va;
	n = pin_window(memfd, va + (start - first),
		       va + min_t(u64, length, end - first + 1),
		       start >> PAGE_SHIFT, folios, max_folios, offset);
	vm_munmap(va, length);
	return n;
}

#endif
