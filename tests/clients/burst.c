// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts the instructions of one burst of 32 packets, with DPDK's options as
 * arguments. Its first port sends them, its second receives them. With QEMU's
 * "-icount shift=0" the time stamp counter advances by one per instruction.
 *
 * Prints "tx MEDIAN" and "rx MEDIAN".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

#include <rte_config.h>
/* DPDK's headers include one of libbsd's for it, which may not be there. */
#undef RTE_USE_LIBBSD
#include <rte_cycles.h>
#include <rte_debug.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define ROUNDS		1001
#define TRIES		(2 * ROUNDS)
#define BURST		32
#define DESCRIPTORS	256
#define MBUFS		2047
#define FRAME		60
/* Until the packets have arrived */
#define MILLISECONDS	2

#define expect(cond)							\
	do {								\
		if (!(cond))						\
			rte_exit(1, "line %d: expected %s\n",		\
				 __LINE__, #cond);			\
	} while (0)

static struct rte_mempool *pool;

static void start(__u16 port)
{
	const struct rte_eth_conf conf = { 0 };
	struct rte_eth_link link;
	int tries = 100;

	expect(!rte_eth_dev_configure(port, 1, 1, &conf));
	expect(!rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, 0, NULL, pool));
	expect(!rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, 0, NULL));
	expect(!rte_eth_dev_start(port));
	expect(!rte_eth_promiscuous_enable(port));
	do {
		rte_delay_us_sleep(100000);
		expect(!rte_eth_link_get_nowait(port, &link) && --tries);
	} while (!link.link_status);
}

static void stop(__u16 port)
{
	expect(!rte_eth_dev_stop(port));
	expect(!rte_eth_dev_close(port));
}

static void make_burst(struct rte_mbuf **packets)
{
	int i;

	expect(!rte_pktmbuf_alloc_bulk(pool, packets, BURST));
	for (i = 0; i < BURST; i++)
		memset(rte_pktmbuf_append(packets[i], FRAME), 0xff, FRAME);
}

/* Each returns the number of packets, and the instructions that it took. */
static __u16 send_burst(struct rte_mbuf **packets, __u64 *took)
{
	__u64 t = rte_rdtsc();
	__u16 n = rte_eth_tx_burst(0, 0, packets, BURST);

	*took = rte_rdtsc() - t;
	return n;
}

static __u16 receive_burst(struct rte_mbuf **packets, __u64 *took)
{
	__u64 t = rte_rdtsc();
	__u16 n = rte_eth_rx_burst(1, 0, packets, BURST);

	*took = rte_rdtsc() - t;
	return n;
}

static int compare(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void print_median(const char *name, __u64 *rounds)
{
	qsort(rounds, ROUNDS, sizeof(*rounds), compare);
	printf("%s %llu\n", name, rounds[ROUNDS / 2]);
}

int main(int argc, char **argv)
{
	static __u64 tx[ROUNDS], rx[ROUNDS];
	struct rte_mbuf *packets[BURST];
	int round = 0, tries = TRIES;
	__u16 sent, got, all;
	__u64 took;

	expect(rte_eal_init(argc, argv) >= 0);
	pool = rte_pktmbuf_pool_create("packets", MBUFS, 0, 0,
				       RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	expect(pool && rte_eth_dev_count_avail() == 2);
	start(1);
	start(0);

	/* A round counts if all packets were sent, and received together. */
	while (round < ROUNDS) {
		expect(tries--);
		make_burst(packets);
		sent = send_burst(packets, &tx[round]);
		rte_pktmbuf_free_bulk(packets + sent, BURST - sent);
		all = 0;
		do {
			rte_delay_us_sleep(MILLISECONDS * 1000);
			got = receive_burst(packets, all ? &took : &rx[round]);
			rte_pktmbuf_free_bulk(packets, got);
			all += got;
			if (got == BURST && sent == BURST)
				round++;
		} while (got && all < sent);
	}
	print_median("tx", tx);
	print_median("rx", rx);

	stop(0);
	stop(1);
	rte_eal_cleanup();
	return 0;
}
