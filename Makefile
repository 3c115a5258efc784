# SPDX-License-Identifier: GPL-2.0-only
# What a user types; `make help` lists it. The kernel build itself is in Kbuild.

# Without these, a user who became root by su has no dkms and no depmod.
export PATH := $(PATH):/usr/sbin:/sbin

KDIR ?= /lib/modules/$(shell uname -r)/build

# Where a kbuild is, and how far: what the make of a kernel hands to all that it
# calls, or a user has for building kernels, is not for the one that we call. It
# would take KDIR for a tree that it may write to.
kbuild := O M MO KBUILD_OUTPUT KBUILD_EXTMOD KBUILD_EXTMOD_OUTPUT KBUILD_SRC \
	  KCONFIG_CONFIG sub_make_done building_out_of_srctree srctree objtree \
	  srcroot abs_srctree abs_objtree VPATH
unexport $(kbuild)
MAKEOVERRIDES := $(filter-out $(addsuffix =%,$(kbuild)),$(MAKEOVERRIDES))

# The version, for packages, DKMS and modinfo: that of debian/changelog, or where
# DKMS has the source, of dkms.conf. Between releases it ends in "~git" there, and
# the commit follows: how many there are up to it, and its name.
PKGVER := $(or $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog 2>/dev/null),$(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf))
ifneq ($(and $(filter %~git,$(PKGVER)),$(wildcard .git)),)
git := git -c safe.directory='*' --no-optional-locks
commit := $(shell $(git) rev-list --count HEAD 2>/dev/null).$(shell $(git) rev-parse --short HEAD 2>/dev/null)
dirty := $(if $(shell $(git) status --porcelain -uno 2>/dev/null),+dirty)
PKGVER := $(PKGVER)$(addsuffix $(dirty),$(filter-out .,$(commit)))
endif

# The kernel whose headers are to be there, by the directory's name
kdir_kernel := $(patsubst /lib/modules/%/build,%,$(filter /lib/modules/%/build,$(KDIR)))
KREL := $(shell sed -n 's/.*UTS_RELEASE "\(.*\)".*/\1/p' '$(KDIR)/include/generated/utsrelease.h' 2>/dev/null)

# The architecture of that tree, and the one to build for, as the kernel names it.
subarch = sed -e 's/^x86_64$$/x86/; s/^i.86$$/x86/; s/^aarch64$$/arm64/; s/^arm[v.].*/arm/; s/^ppc.*/powerpc/; s/^s390x$$/s390/; s/^riscv.*/riscv/; s/^loongarch.*/loongarch/'
KARCH := $(shell sed -n 's|^. Linux/\([^ ]*\) .*|\1|p' '$(KDIR)/include/config/auto.conf' 2>/dev/null | $(subarch))
arch = $(shell echo '$(or $(ARCH),$(shell uname -m))' | $(subarch))

# A kernel that clang built takes modules of clang's.
ifeq ($(LLVM)$(filter command% environment%,$(origin CC)),)
kcc := $(shell sed -n 's/^CONFIG_\(CC_IS_CLANG\|LD_IS_LLD\)=y/\1/p' '$(KDIR)/include/config/auto.conf' 2>/dev/null)
ifneq ($(filter CC_IS_CLANG,$(kcc)),)
ifneq ($(filter LD_IS_LLD,$(kcc)),)
modules modules_install: export LLVM = 1
else
modules modules_install: export CC = clang
endif
endif
endif

# Objects are built beside links to the sources, a directory a kernel. kbuild
# wants no blank in that path: below build/ if ours has none.
builds = $(if $(word 2,$(CURDIR)),$(HOME)/.cache/noiommufd/$(shell echo '$(CURDIR)' | cksum | cut -d' ' -f1),$(CURDIR)/build)
OUT ?= $(builds)/$(KREL)
out := $(abspath $(OUT))

# As many jobs as processors, unless the caller said how many.
jobs = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

help:
	@echo 'make modules [KDIR=...]          build noiommufd.ko and noiommu-vfio-pci.ko for a kernel'
	@echo 'make modules_install [KDIR=...] [INSTALL_MOD_PATH=...] [MODULE_SIG_KEY=...]'
	@echo 'make deb                         build/noiommufd-dkms_..._all.deb, noiommufd-tools_..., libnoiommufd0_... and libnoiommufd-dev_....deb'
	@echo 'make rpm                         build/noiommufd-dkms-...noarch.rpm, noiommufd-tools-..., libnoiommufd0-... and libnoiommufd-devel-....rpm'
	@echo 'make rpm-kmod [KDIR=...]         build/kmod-noiommufd-....rpm: modules for one kernel'
	@echo 'make dkms-install, dkms-remove   what the packages install, without a package'
	@echo 'make install-files [DESTDIR=...] [prefix=...]  manual pages, documents, a udev rule, its group, hooks for an initramfs: all but what is built'
	@echo 'make install-headers [DESTDIR=...] [prefix=...]  headers for programs'
	@echo 'make install-tools [DESTDIR=...] [prefix=...]  noiommufd-run and its library, noiommuctl'
	@echo 'make install-lib, install-lib-dev [DESTDIR=...] [prefix=...] [archlibdir=...]  libnoiommufd, for programs and to build them'
	@echo 'make demo [KERNEL=6.1]           user-space NVMe in a guest without an IOMMU'
	@echo 'make check [KERNEL=...] [TESTS=pattern] [ARGS=...]  all tests'
	@echo 'make check KDIR=... [IMAGE=...] [TESTS=pattern]   the guest suite on the kernel of a build tree'
	@echo '     RECORD=1                    what ran on which kernel goes into docs/kernels.md'
	@echo 'make guest [KERNEL=...] [TESTS=pattern] [ARGS=...]  a part of them, quickly: no package; ARGS go to pytest'
	@echo 'make check-all                   all of it on every kernel and flavour, every compiler, Linux 7.3: hours'
	@echo 'make kunit [KERNEL=...] [ARGS=...]  the KUnit suites alone, by kunit.py under UML'
	@echo 'make coverage                    what of the page table and the areas they run through'
	@echo 'make conformance                 every call, side by side with mainline Linux 7.3, then on the stock kernels'
	@echo 'make selftests                   ours and the kernel'\''s own, on mainline Linux 7.3 and on ours'
	@echo 'make bench [ROW=name]            instructions a call takes, beside mainline Linux 7.3 (docs/performance.md)'
	@echo 'make version                     the version of all of these'
	@echo 'make clean                       remove what was built (build/, but not build/cache)'

kdir-check:
	@test -d '$(KDIR)' || { echo 'noiommufd: there is no kernel build directory $(KDIR): install the headers of that kernel$(if $(kdir_kernel), ('"$$(scripts/dkms-setup headers '$(kdir_kernel)')"')) or give KDIR=<directory>' >&2; exit 1; }
	@test -n '$(KREL)' && test -e '$(KDIR)/include/generated/autoconf.h' || { echo 'noiommufd: $(KDIR) is not prepared: run make modules_prepare there, or give KDIR=<kernel build directory>' >&2; exit 1; }
	@test -z '$(KARCH)' || test '$(KARCH)' = '$(arch)' || { echo 'noiommufd: $(KDIR) is of a kernel for $(KARCH), not $(arch): give ARCH=$(KARCH) and CROSS_COMPILE=<prefix of its compiler>, or another KDIR' >&2; exit 1; }
	@test -e '$(KDIR)/Module.symvers' || { echo 'noiommufd: $(KDIR) has no Module.symvers: build that kernel with its modules (make modules) first' >&2; exit 1; }

version:
	@echo '$(PKGVER)'

# Of two packages the one of the later commit is the newer.
version-check:
ifneq ($(and $(git),$(filter %~git,$(PKGVER))),)
	@echo 'noiommufd: the commit is a part of the version, and git does not say which it is: install git (Debian: apt-get install git)' >&2; exit 1
endif
	@test -z "$(git)" || test "$$($(git) rev-parse --is-shallow-repository)" != true || { echo 'noiommufd: the version counts commits, and this clone does not have all of them: git fetch --unshallow' >&2; exit 1; }

# New links each time (a source may be gone), old objects stay.
modules: kdir-check
	@mkdir -p '$(out)'
	@find '$(out)' -type l -delete
	@cp -rs '$(CURDIR)/Kbuild' '$(CURDIR)/src' '$(CURDIR)/include' '$(CURDIR)/compat' '$(out)/'
	@echo '$(PKGVER)' >'$(out)/VERSION'
	@test ! -d tests/kunit || { mkdir -p '$(out)/tests' && cp -rs '$(CURDIR)/tests/kunit' '$(out)/tests/'; }
	+@bash '$(out)/compat/run-probes' '$(KDIR)' '$(out)'
	$(MAKE) $(jobs) -C '$(KDIR)' M='$(out)' modules
	@echo 'Built: $(out)/noiommufd.ko $(out)/noiommu-vfio-pci.ko'

# A distribution's headers say "sign all modules" and come without the key.
# Strings have quotes there before Linux 5.18, and none from then on.
text = $(shell sed -n 's/^CONFIG_$(1)="\{0,1\}\([^"]*\)"\{0,1\}$$/\1/p' '$(KDIR)/include/config/auto.conf')
sigkey = $(call text,MODULE_SIG_KEY)
unsigned = $(if $(wildcard $(sigkey) $(KDIR)/$(sigkey))$(findstring pkcs11:,$(sigkey)),,CONFIG_MODULE_SIG_ALL=)

# With a key of the caller's. kbuild installs, strips, signs and compresses, as
# the kernel's configuration has it; the key is all that is told otherwise.
MODULE_SIG_CERT ?= $(MODULE_SIG_KEY)
pem = $(if $(findstring pkcs11:,$(1)),'$(1)','$(abspath $(1))')
sign = '$(abspath $(KDIR))/scripts/sign-file' '$(call text,MODULE_SIG_HASH)' $(call pem,$(MODULE_SIG_KEY)) $(call pem,$(MODULE_SIG_CERT))
signed = CONFIG_MODULE_SIG_ALL=y cmd_sign="$(sign) \$$@"

modules_install: kdir-check
	@test -e '$(out)/noiommu-vfio-pci.ko' || { echo 'noiommufd: nothing is built for $(KREL): run make modules KDIR=$(KDIR) first' >&2; exit 1; }
ifneq ($(MODULE_SIG_KEY),)
	@test -n '$(call text,MODULE_SIG_HASH)' && test -x '$(KDIR)/scripts/sign-file' || { echo 'noiommufd: the kernel of $(KDIR) knows no signatures: leave MODULE_SIG_KEY out' >&2; exit 1; }
	@$(sign) '$(out)/noiommufd.ko' '$(out)/signed' 2>/dev/null || { echo 'noiommufd: nothing can be signed with $(MODULE_SIG_KEY): give MODULE_SIG_KEY=<PEM file of a private key> and, unless the certificate is in it, MODULE_SIG_CERT=<file>' >&2; exit 1; }
endif
	$(MAKE) -C '$(KDIR)' M='$(out)' modules_install $(if $(MODULE_SIG_KEY),$(signed),$(unsigned))
	depmod $(if $(INSTALL_MOD_PATH),-b '$(INSTALL_MOD_PATH)') '$(KREL)'

shipped := Kbuild Makefile COPYING README.md CHANGELOG.md SECURITY.md dkms.conf src include compat debian scripts \
	   lib tools man udev initramfs docs examples

# A copy of what a package needs, in directory $(1).
define source_copy
	@rm -rf $(1) && mkdir -p $(1)/noiommufd-$(PKGVER)
	@cp -r $(shipped) $(1)/noiommufd-$(PKGVER)/
	@sed -i '1s/(.*)/($(PKGVER))/' $(1)/noiommufd-$(PKGVER)/debian/changelog
endef

deb: version-check
	@command -v dh_dkms >/dev/null && command -v dpkg-buildpackage >/dev/null || { echo 'noiommufd: the tools that build the package are not here: apt-get install dpkg-dev debhelper dh-dkms' >&2; exit 1; }
	$(call source_copy,build/deb)
	cd build/deb/noiommufd-$(PKGVER) && MAKEFLAGS= dpkg-buildpackage -us -uc -b
	@rm -f build/*noiommufd*_*.deb
	@for p in noiommufd-dkms noiommufd-tools libnoiommufd0 libnoiommufd-dev; do cp build/deb/$${p}_$(PKGVER)_*.deb build/ || exit; done
	@cd build && for f in *noiommufd*_$(PKGVER)_*.deb; do echo "Built: $(CURDIR)/build/$$f"; done

# The same with rpmbuild, in build/rpm; $(1) is a file of rpm/, $(2) its macros,
# $(3) what older packages of it in build/ are called.
define rpmbuild
	@command -v rpmbuild >/dev/null || { echo 'noiommufd: the tool that builds the package is not here: install rpm-build (Debian: apt-get install rpm)' >&2; exit 1; }
	$(call source_copy,build/rpm)
	@mkdir build/rpm/SOURCES
	@tar -C build/rpm -czf build/rpm/SOURCES/noiommufd-$(PKGVER).tar.gz noiommufd-$(PKGVER)
	MAKEFLAGS= rpmbuild -bb --define '_topdir $(CURDIR)/build/rpm' --define 'noiommufd_version $(PKGVER)' $(2) rpm/$(1).spec
	@rm -f $(3)
	@cp build/rpm/RPMS/*/*.rpm build/
	@cd build/rpm/RPMS && for f in */*.rpm; do echo "Built: $(CURDIR)/build/$${f#*/}"; done
endef

rpm: version-check
	$(call rpmbuild,noiommufd-dkms,,build/noiommufd-dkms-*.rpm)
	$(call rpmbuild,noiommufd-tools,,build/noiommufd-tools-*.rpm build/libnoiommufd0-*.rpm build/libnoiommufd-devel-*.rpm)

rpm-kmod: version-check kdir-check
	$(call rpmbuild,kmod-noiommufd,--define 'noiommufd_kdir $(abspath $(KDIR))' --define 'noiommufd_krel $(KREL)',build/noiommufd-common-*.rpm 'build/kmod-noiommufd-$(KREL)'-[0-9]*.rpm)

# What users get beside the modules: the one list, for each package and for
# dkms-install. Directories are named as GNU does.
prefix = /usr
libdir = $(prefix)/lib
# Where distributions have libraries of one architecture
archlibdir = $(libdir)
sbindir = $(prefix)/sbin
includedir = $(prefix)/include
mandir = $(prefix)/share/man
docdir = $(prefix)/share/doc/noiommufd
udevdir = $(prefix)/lib/udev
sysconfdir = /etc
conf = $(sysconfdir)/modprobe.d/noiommufd.conf

install-headers:
	install -D -m 644 -t '$(DESTDIR)$(includedir)/noiommufd' include/noiommufd/*.h
	install -D -m 644 -t '$(DESTDIR)$(includedir)/noiommufd/compat/linux' include/noiommufd/compat/linux/*.h
	install -d '$(DESTDIR)$(prefix)/share/pkgconfig'
	sed 's|@includedir@|$(includedir)|; s|@version@|$(PKGVER)|' include/noiommufd.pc.in >'$(DESTDIR)$(prefix)/share/pkgconfig/noiommufd.pc'

install-files:
	for n in 4 7; do install -D -m 644 -t "$(DESTDIR)$(mandir)/man$$n" man/noiommu*.$$n || exit; done
	install -D -m 644 -t '$(DESTDIR)$(udevdir)/rules.d' udev/60-noiommufd.rules
	install -D -m 644 udev/noiommufd.sysusers '$(DESTDIR)$(prefix)/lib/sysusers.d/noiommufd.conf'
	install -D -m 644 debian/noiommufd.conf '$(DESTDIR)$(conf)'
	install -D initramfs/hook '$(DESTDIR)$(prefix)/share/initramfs-tools/hooks/noiommufd'
	for when in init-top init-bottom; do \
		install -D initramfs/early.sh "$(DESTDIR)$(prefix)/share/initramfs-tools/scripts/$$when/noiommufd" || exit; done
	install -D -t '$(DESTDIR)$(prefix)/lib/dracut/modules.d/90noiommufd' initramfs/early.sh initramfs/module-setup.sh
	install -D -m 644 -t '$(DESTDIR)$(docdir)' README.md CHANGELOG.md SECURITY.md
	cp -r docs examples '$(DESTDIR)$(docdir)'

# What is built for this machine: libnoiommufd, noiommufd-run and its library, noiommuctl.
library = $(libdir)/noiommufd/libnoiommufd-vfio.so

built-lib:
	@$(MAKE) --no-print-directory -C lib O='$(CURDIR)/build/tools'

tools: built-lib
	@$(MAKE) --no-print-directory -C tools O='$(CURDIR)/build/tools' LIBRARY='$(library)' VERSION='$(PKGVER)'

# The library for drivers: what a program needs to run, and to be built
install-lib: built-lib
	install -D -m 644 build/tools/libnoiommufd.so.0 '$(DESTDIR)$(archlibdir)/libnoiommufd.so.0'

install-lib-dev: built-lib
	install -D -m 644 -t '$(DESTDIR)$(archlibdir)' build/tools/libnoiommufd.a
	ln -sf libnoiommufd.so.0 '$(DESTDIR)$(archlibdir)/libnoiommufd.so'
	install -D -m 644 -t '$(DESTDIR)$(includedir)' include/libnoiommufd.h
	install -d '$(DESTDIR)$(archlibdir)/pkgconfig' '$(DESTDIR)$(mandir)/man3'
	sed 's|@includedir@|$(includedir)|; s|@libdir@|$(archlibdir)|; s|@version@|$(PKGVER)|' include/libnoiommufd.pc.in >'$(DESTDIR)$(archlibdir)/pkgconfig/libnoiommufd.pc'
	install -D -m 644 -t '$(DESTDIR)$(mandir)/man7' man/libnoiommufd.7
	scripts/man3 -v dir='$(DESTDIR)$(mandir)/man3' -v date="$$(sed -n 's/^\.TH LIBNOIOMMUFD 7 \([^ ]*\).*/\1/p' man/libnoiommufd.7)" include/libnoiommufd.h

install-tools: tools
	install -D -m 755 -t '$(DESTDIR)$(sbindir)' build/tools/noiommufd-run build/tools/noiommuctl
	install -D -m 644 build/tools/libnoiommufd-vfio.so '$(DESTDIR)$(library)'
	install -D -m 644 -t '$(DESTDIR)$(mandir)/man8' man/noiommufd-run.8 man/noiommuctl.8
	install -D -m 644 tools/noiommuctl/completion '$(DESTDIR)$(prefix)/share/bash-completion/completions/noiommuctl'

# The source that dkms builds, where dkms looks for it.
dkmssrc = /usr/src/noiommufd-$(PKGVER)

install-source:
	install -D -t '$(DESTDIR)$(dkmssrc)/scripts' scripts/dkms-setup
	cp -r Kbuild Makefile src include compat '$(DESTDIR)$(dkmssrc)'
	rm '$(DESTDIR)$(dkmssrc)/compat/README.md'
	sed 's/#MODULE_VERSION#/$(PKGVER)/' dkms.conf >'$(DESTDIR)$(dkmssrc)/dkms.conf'

root-check:
	@test "$$(id -u)" = 0 || { echo 'noiommufd: this needs root: sudo make $(MAKECMDGOALS)' >&2; exit 1; }

package-check:
	@! dpkg-query -S '/usr/src/noiommufd-*/dkms.conf' >/dev/null 2>&1 && ! rpm -q noiommufd-dkms >/dev/null 2>&1 || { echo 'noiommufd: it was installed as a package: remove noiommufd-dkms (Debian: apt-get remove noiommufd-dkms)' >&2; exit 1; }

# All that a package has, without one. With the source is what dkms-remove has to
# know, and a package that is installed over it: the names of the files, and the
# configuration as it was installed. One that was there before stays.
stage = build/dkms-install

dkms-install: root-check package-check version-check
	@command -v dkms >/dev/null || { echo 'noiommufd: dkms is not installed: install it from your distribution (Debian: apt-get install dkms)' >&2; exit 1; }
	@for d in /lib/modules/*/build/; do test -d "$$d" && break; done || { echo "noiommufd: there are no kernel headers in /lib/modules/*/build: install those of your kernel ($$(scripts/dkms-setup headers $$(uname -r)))" >&2; exit 1; }
	@scripts/dkms-setup remove '$(conf)'
	@rm -rf $(stage)
	@umask 022 && $(MAKE) --no-print-directory install-files install-headers install-source DESTDIR='$(CURDIR)/$(stage)'
	@printf '#include <argp.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 || { echo 'noiommufd: noiommufd-run, noiommuctl and libnoiommufd are left out: they need a C compiler and the headers of the C library (Debian: apt-get install gcc libc6-dev)'; exit 0; }; \
		umask 022 && $(MAKE) --no-print-directory install-tools install-lib install-lib-dev DESTDIR='$(CURDIR)/$(stage)'
	@cd $(stage) && mv .$(conf) .$(dkmssrc) && find . ! -type d ! -path './usr/src/*' | sed 's/^.//' >.$(dkmssrc)/installed
	umask 022 && cp -r $(stage)/. /
	@test -e '$(conf)' || install -D -m 644 debian/noiommufd.conf '$(conf)'
	@rm -rf $(stage)
	MAKEFLAGS= scripts/dkms-setup install $(PKGVER)

# Whatever version it is.
dkms-remove: root-check package-check
	@scripts/dkms-setup leftovers
	@scripts/dkms-setup remove '$(conf)'

# In guests with stock kernels; KERNEL is a role in tests/guest/kernels.
demo:
	@tests/run -m runner.demo '$(KERNEL)'

# What the guest of the suite runs
suite := guest/suite guest/init conformance selftests

# With KDIR on the command line: on the kernel of that build tree alone. ARGS go to pytest.
check:
	@tests/run -m pytest --tests '$(TESTS)' $(if $(and $(KDIR),$(filter command,$(origin KDIR))),\
		--kdir '$(KDIR)' --image '$(IMAGE)' $(ARGS) $(suite),\
		-n 2 --package $(if $(KERNEL),--kernel '$(KERNEL)',--daily) $(ARGS))

# The suite on modules of the tree as it is, without a package.
guest:
	@tests/run -m pytest --kernel '$(KERNEL)' --tests '$(TESTS)' $(ARGS) $(suite)

# Every kernel, flavour and compiler, into docs/kernels.md.
check-all:
	@MORE_PACKAGES='libcap-dev uuid-dev diffoscope-minimal faketime piuparts' tests/run -m runner.all $(PARTS)

# ARGS go to kunit.py.
kunit:
	@tests/run -m runner.kunit $(KERNEL) -- $(ARGS)

coverage:
	@tests/run -m runner.kunit --coverage

# Side by side with mainline; ROW is one of tests/bench/targets.
bench:
	@MORE_PACKAGES=gnuplot-nox tests/run -m runner.bench $(ROW)

# On Linux 7.3, where mainline's answers are to be had, then as a part of check.
conformance:
	@tests/run -m pytest reference/test_conformance_7_3.py
	@$(MAKE) --no-print-directory check TESTS=conformance

selftests:
	@MORE_PACKAGES='libcap-dev uuid-dev' tests/run -m pytest reference/test_selftests_7_3.py

# The cache of guests takes long to fill again; it is never stale.
clean:
	@test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +
	@rm -rf $(if $(word 2,$(CURDIR)),'$(builds)')

.PHONY: help guest version version-check kdir-check modules modules_install deb rpm rpm-kmod install-headers install-files built-lib tools install-lib install-lib-dev install-tools install-source root-check package-check dkms-install dkms-remove demo check check-all kunit coverage bench conformance selftests clean
