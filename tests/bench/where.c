// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin for QEMU that shows where the instructions of a call are spent. It counts
 * how often each instruction is executed between the two markers that bench -p puts
 * around a call (begin_mark() in bench.c), and writes
 *
 *	= NUMBER
 *	ADDRESS COUNT LOCKED SHARED INSTRUCTION
 *
 * per pair of markers to the file of its argument "out=FILE". LOCKED is 1 if the
 * instruction locks a cache line: by a lock prefix, or as an exchange with memory.
 * SHARED is how often that was a line that the pair of markers before has locked
 * as well.
 *
 * One virtual CPU, so no lock is needed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

#include "qemu_plugin.h"

#define EXPORT __attribute__((visibility("default")))

/* The version of that interface */
EXPORT int qemu_plugin_version = 1;

/* An instruction; all of them hang in a hash table. */
struct where {
	struct where *next;
	__u64 addr;
	__u64 count;
	__u64 shared;
	bool locked;
	char *text;
};

/* A cache line, and the last two windows in which it was locked */
struct line {
	struct line *next;
	__u64 number;
	unsigned int last;
	unsigned int before;
};

#define BUCKETS	65536
static struct where *table[BUCKETS];
static struct line *lines[BUCKETS];
static FILE *out;
/* Of the last window, or of the one that is open */
static unsigned int windows;
static bool open_window;

static struct where *where_get(__u64 addr,
			       const struct qemu_plugin_insn *insn)
{
	struct where **bucket = &table[(addr ^ addr >> 16) % BUCKETS];
	const unsigned char *code = qemu_plugin_insn_data(insn);
	size_t i, size = qemu_plugin_insn_size(insn);
	struct where *w;

	for (w = *bucket; w; w = w->next)
		if (w->addr == addr)
			return w;
	w = calloc(1, sizeof(*w));
	if (!w)
		abort();
	w->addr = addr;
	w->text = qemu_plugin_insn_disas(insn);
	/* Prefixes come first: lock, and those that may stand beside it. */
	for (i = 0; i < size; i++) {
		if (code[i] == 0xf0) {
			w->locked = true;
		} else if (code[i] != 0x66 && code[i] != 0x65 &&
			   code[i] != 0x3e && code[i] != 0x2e &&
			   (code[i] & 0xf0) != 0x40) {
			break;
		}
	}
	/* xchg with a memory operand locks without a prefix. */
	if (i + 1 < size && (code[i] & 0xfe) == 0x86 && code[i + 1] < 0xc0)
		w->locked = true;
	w->next = *bucket;
	*bucket = w;
	return w;
}

static struct line *line_get(__u64 number)
{
	struct line **bucket = &lines[number % BUCKETS], *line;

	for (line = *bucket; line; line = line->next)
		if (line->number == number)
			return line;
	line = calloc(1, sizeof(*line));
	if (!line)
		abort();
	line->number = number;
	line->next = *bucket;
	*bucket = line;
	return line;
}

static void line_locked(unsigned int cpu, __u32 info, __u64 addr, void *arg)
{
	struct where *w = arg;
	struct line *line;

	(void)cpu;
	/* It reads that line as well. */
	if (!open_window || !qemu_plugin_mem_is_store(info))
		return;
	line = line_get(addr / 64);
	if (line->last != windows) {
		line->before = line->last;
		line->last = windows;
	}
	w->shared += line->before && line->before == windows - 1;
}

static void window_begin(unsigned int cpu, void *arg)
{
	struct where *w;
	size_t i;

	(void)cpu;
	(void)arg;
	for (i = 0; i < BUCKETS; i++)
		for (w = table[i]; w; w = w->next) {
			w->count = 0;
			w->shared = 0;
		}
	windows++;
	open_window = true;
}

static void window_end(unsigned int cpu, void *arg)
{
	struct where *w;
	size_t i;

	(void)cpu;
	(void)arg;
	open_window = false;
	fprintf(out, "= %u\n", windows);
	for (i = 0; i < BUCKETS; i++)
		for (w = table[i]; w; w = w->next)
			if (w->count)
				fprintf(out, "%016llx %llu %d %llu %s\n",
					w->addr, w->count, w->locked, w->shared,
					w->text);
	fflush(out);
}

/* Is it "nopl NUMBER(%rax)", one of bench's? Then NUMBER, else 0. */
static __u32 insn_mark(const struct qemu_plugin_insn *insn)
{
	static const unsigned char nopl[] = { 0x0f, 0x1f, 0x80 };
	const unsigned char *code = qemu_plugin_insn_data(insn);
	__u32 number;

	if (qemu_plugin_insn_size(insn) != sizeof(nopl) + sizeof(number) ||
	    memcmp(code, nopl, sizeof(nopl)))
		return 0;
	memcpy(&number, code + sizeof(nopl), sizeof(number));
	return number;
}

static void insn_translated(struct qemu_plugin_insn *insn)
{
	__u64 addr = qemu_plugin_insn_vaddr(insn);
	qemu_plugin_insn_fn fn;
	struct where *w;

	switch (insn_mark(insn)) {
	case 0x626e6368:
		fn = window_begin;
		break;
	case 0x626e6369:
		fn = window_end;
		break;
	default:
		w = where_get(addr, insn);
		qemu_plugin_register_vcpu_insn_exec_inline(insn,
							   QEMU_PLUGIN_INLINE_ADD_U64,
							   &w->count, 1);
		if (w->locked)
			qemu_plugin_register_vcpu_mem_cb(insn, line_locked,
							 QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_W, w);
		return;
	}
	qemu_plugin_register_vcpu_insn_exec_cb(insn, fn,
					       QEMU_PLUGIN_CB_NO_REGS, NULL);
}

static void translated(__u64 id, struct qemu_plugin_tb *tb)
{
	size_t i, nr = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (i = 0; i < nr; i++)
		insn_translated(qemu_plugin_tb_get_insn(tb, i));
}

EXPORT int qemu_plugin_install(__u64 id, const void *info, int argc,
			       char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	if (!out) {
		fprintf(stderr, "where: out=FILE is missing or cannot be written\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
