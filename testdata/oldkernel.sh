#!/usr/bin/env bash
# Runs tests on Debian's kernel (6.1: soft-dirty bits, no PAGEMAP_SCAN, no
# PROCMAP_QUERY) in a virtual machine without KVM, two CPUs, as root. Installs
# nothing: wants qemu-system-x86, busybox-static, cpio, gcc-multilib and Go.
#
#   testdata/oldkernel.sh [DIR [REGEXP]]   tests of cmd/memtrace that match; if
#                                          none is given, those of memory
#   KERNEL=vmlinuz testdata/oldkernel.sh   another kernel
#   TIMEOUT=3600                           seconds that it may run
#   SCRIPT=file                            run this in the machine instead
#
# DIR (/tmp/memtrace-oldkernel) keeps the kernel, what was built and `console`.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-/tmp/memtrace-oldkernel}
# Those that write down what is true of their memory; not those that take long or
# measure time (many race restart sweep timer vdso): emulation is slow.
run=${2:-'^(TestStale|TestFilter|TestPrograms)$/^([^mrstv]|m[^a]|rem|s[^w])'}
mkdir -p "$dir/bin"

kernel=${KERNEL:-$(echo "$dir"/kernel/boot/vmlinuz-*)}
if [ ! -e "$kernel" ]; then
	package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p')
	(cd "$dir" && apt-get download "$package")
	dpkg-deb -x "$dir/$package"_*.deb "$dir/kernel"
	kernel=$(echo "$dir"/kernel/boot/vmlinuz-*)
fi

# What is run there.
CGO_ENABLED=0 go build -o "$dir/bin/memtrace" ./cmd/memtrace
CGO_ENABLED=0 go test -c -o "$dir/bin/memtrace.test" ./cmd/memtrace
CGO_ENABLED=0 go test -c -o "$dir/bin/procfs.test" ./record/procfs
CGO_ENABLED=0 go test -c -o "$dir/bin/record.test" ./record
compile() { # SOURCE BUILD FLAGS...
	out=$dir/bin/$(basename "$1" .c)-$2
	if [ ! "$out" -nt "$1" ]; then
		gcc -O1 -g -D_GNU_SOURCE -pthread -w "${@:3}" -o "$out" "$1" 2>"$dir/gcc" || echo "no $out"
	fi
}
for source in testdata/progs/*.c; do
	if [ "$source" != testdata/progs/i386calls.c ]; then
		compile "$source" x86_64
		compile "$source" static -static
	fi
	compile "$source" i386 -m32
done

# Its root is in memory: a shell, the libraries, this.
root=$dir/root
rm -rf "$root"
mkdir -p "$root"/{bin,proc,sys,dev,tmp,etc,root,lib,lib32,lib64,src/cmd/memtrace,src/testdata,opt}
cp "$(command -v busybox)" "$root/bin/busybox"
cp -r testdata/progs testdata/scripts "$root/src/testdata/"
cp -r "$dir/bin" "$root/opt/memtrace"
library() { cp -L --parents "$@" "$root" 2>/dev/null || true; }
library /lib64/ld-linux-x86-64.so.2 /lib/x86_64-linux-gnu/lib{c.so.6,m.so.6,gcc_s.so.1,tinfo.so.6}
library /lib/ld-linux.so.2 /lib32/lib{c.so.6,m.so.6,gcc_s.so.1}
library /bin/bash
echo 'root:x:0:0::/root:/bin/sh' >"$root/etc/passwd"
cp "${SCRIPT:-/dev/null}" "$root/script"
cat >"$root/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o size=2g tmp /tmp
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ip link set lo up
export HOME=/root PATH=/bin MEMTRACE_PREBUILT=/opt/memtrace MEMTRACE_REQUIRE=ptrace,root,proc,softdirty MEMTRACE_LONG=1
echo 8 >/proc/sys/vm/nr_hugepages
uname -a
cd /src/cmd/memtrace
if [ -s /script ]; then
	sh /script
	status=\$?
else
	/opt/memtrace/procfs.test -test.v -test.run 'Scan|SoftDirty' &&
	/opt/memtrace/record.test -test.v -test.run SoftDirty &&
	/opt/memtrace/memtrace.test -test.v -test.parallel 2 -test.timeout ${TIMEOUT:-3600}s -test.run '$run'
	status=\$?
fi
echo "oldkernel: status \$status"
poweroff -f
END
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"

timeout "${TIMEOUT:-3600}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 4G -kernel "$kernel" -initrd "$dir/initrd" \
	-append 'console=ttyS0 quiet panic=-1' -no-reboot -display none -monitor none -serial stdio -nic none </dev/null | tee "$dir/console"
grep -q '^oldkernel: status 0' "$dir/console"
