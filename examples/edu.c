// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's device for teaching (docs/specs/edu) computes 10! and copies memory.
 *	gcc -O2 -Wall edu.c -lnoiommufd -o edu && ./edu 0000:00:04.0
 */
#include <err.h>
#include <stdio.h>
#include <libnoiommufd.h>

#define FACTORIAL	0x08
#define STATUS		0x20	/* 0x80: raise an interrupt when it is computed */
#define IRQ_ACK		0x64
#define DMA_FROM	0x80
#define DMA_TO		0x88
#define DMA_LENGTH	0x90
#define DMA_COMMAND	0x98	/* 1: start, 2: to memory, 4: raise an interrupt */
#define BUFFER		0x40000	/* of 4096 bytes, in the device */

static void wait_for(struct noiommufd_device *dev, char *bar)
{
	if (noiommufd_irq_wait(dev, 0, 10000) <= 0)
		errx(1, "The device sent no interrupt in ten seconds.");
	noiommufd_write32(bar + IRQ_ACK, ~0U);
}

static void copy(struct noiommufd_device *dev, char *bar, __u64 from, __u64 to, __u64 command)
{
	noiommufd_write64(bar + DMA_FROM, from);
	noiommufd_write64(bar + DMA_TO, to);
	noiommufd_write64(bar + DMA_LENGTH, 64);
	noiommufd_write64(bar + DMA_COMMAND, command);
	wait_for(dev, bar);
}

int main(int argc, char **argv)
{
	struct noiommufd_device *dev;
	struct noiommufd_dma *mem;
	char *bar, *text;

	noiommufd_set_log(noiommufd_print, stderr);	/* explain what fails */
	dev = noiommufd_open(argc > 1 ? argv[1] : NULL, NULL);
	if (!dev)
		return 1;
	bar = noiommufd_bar(dev, NOIOMMUFD_BAR0);
	mem = noiommufd_alloc(noiommufd_device_ioas(dev), 4096, NULL);
	if (!bar || !mem || noiommufd_bus_master(dev, true) ||
	    noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1))
		return 1;
	noiommufd_write32(bar + STATUS, 0x80);
	noiommufd_write32(bar + FACTORIAL, 10);
	wait_for(dev, bar);
	text = noiommufd_va(mem);
	snprintf(text, 64, "copied by DMA");
	copy(dev, bar, noiommufd_pa(mem, text), BUFFER, 1 | 4);
	copy(dev, bar, BUFFER, noiommufd_pa(mem, text + 64), 1 | 2 | 4);
	printf("10! is %u\n%s\n", noiommufd_read32(bar + FACTORIAL), text + 64);
	noiommufd_close(dev);	/* bus mastering off, reset */
	return 0;
}
