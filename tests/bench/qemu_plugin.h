/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The part of QEMU's plugin interface that where.c needs. Distributions do not
 * package its header.
 */
#ifndef __BENCH_QEMU_PLUGIN_H
#define __BENCH_QEMU_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

struct qemu_plugin_insn;
struct qemu_plugin_tb;

enum {
	QEMU_PLUGIN_CB_NO_REGS = 0,
};

enum {
	QEMU_PLUGIN_INLINE_ADD_U64 = 0,
};

enum {
	QEMU_PLUGIN_MEM_W = 2,
};

/* Callbacks of a plugin: code was translated; an instruction is executed */
typedef void (*qemu_plugin_tb_fn)(__u64 id, struct qemu_plugin_tb *tb);
typedef void (*qemu_plugin_insn_fn)(unsigned int cpu, void *arg);
typedef void (*qemu_plugin_mem_fn)(unsigned int cpu, __u32 info, __u64 addr,
				   void *arg);

void qemu_plugin_register_vcpu_tb_trans_cb(__u64 id, qemu_plugin_tb_fn fn);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    qemu_plugin_insn_fn fn, int flags,
					    void *arg);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
						int op, void *ptr, __u64 imm);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
				      qemu_plugin_mem_fn fn, int flags, int rw,
				      void *arg);
bool qemu_plugin_mem_is_store(__u32 info);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *
qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
__u64 qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *insn);

#endif /* __BENCH_QEMU_PLUGIN_H */
