// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a kernel must have, as its configuration says. Compiled first, with only
 * the target's autoconf, so that there is one sentence and no other error.
 */
#if !defined(CONFIG_VFIO_PCI_CORE) && !defined(CONFIG_VFIO_PCI_CORE_MODULE)
#error "this kernel has no vfio-pci-core: use one with CONFIG_VFIO_PCI_CORE (Linux 5.15 and later)"
#elif defined(CONFIG_IOMMUFD_NOIOMMU) && !defined(NOIOMMUFD_NATIVE)
#error "this kernel has a noiommu cdev itself: use vfio-pci, or build all the same with NATIVE=1"
#elif !defined(CONFIG_NET) && !defined(CONFIG_IO_URING)
#error "this kernel cannot count locked memory: use one with CONFIG_NET or CONFIG_IO_URING"
#elif defined(NOIOMMUFD_NO_FEATURES)
#error "run make modules KDIR=<kernel build directory>, not make -C <kernel build directory>"
#endif
