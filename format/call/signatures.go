package call

// signatures says how calls are shown and, by that, what is read for them: a
// line a call (names that share one are joined by commas), a word an argument.
// Words are in words.go; |TABLE are flags and ^TABLE a value of flagtab.go,
// <STRUCT is read and >STRUCT written by the call (structs.go). WORD:N: register
// N has its length. +WORD@N reads behind register N without showing it.
// ?ARG,MASK,IS: the captures of the word before it only if ARG&MASK==IS. =KIND is
// the result, !NAME a function of special.go, %NAME one of sig.go. NAME@ARCH is for
// that architecture only, NAME@sub for what i386's multiplexers carry. Calls that
// are not here are shown in hex.
const signatures = `
# memory
mmap p lu |prot mflags fd x =hex
mmap@i386 block %mmap =hex
mmap@sub p lu |prot mflags fd x =hex
mmap2 p lu |prot mflags fd pgoff =hex
munmap p lu
brk p =hex
mprotect p lu |prot
pkey_mprotect p lu |prot d
pkey_alloc x |pkey
pkey_free d
mremap p lu lu |mremap fixedaddr =hex
remap_file_pages p lu |prot lu mflags
msync p lu |msync
mlock,munlock p lu
mlock2 p lu |mlock
mlockall |mlockall
madvise p lu ^madvise
process_madvise fd wiov:2 lu ^madvise x
mincore p lu pages:1
mseal p lu x
map_shadow_stack p lu |shadow =hex
mbind p lu mpol p lu |mbind
set_mempolicy mpol p lu
get_mempolicy >int outbits:2 lu p |mpolget
migrate_pages d lu p p
move_pages d lu p p outints:1 |mbind
memfd_create str mfd =fd
memfd_secret x =fd
userfaultfd |uffd =fd
process_vm_readv d riov:2 lu aiov:4 lu lu
process_vm_writev d wiov:2 lu aiov:4 lu lu
process_mrelease fd x
cachestat fd p outb:40 x
shmget key lu shmflg
shmat d p |shmat =hex
shmdt p
shmctl d ctl shmds +>shmid@2 ?1,0xfffffeff,2
ipc ipccall x x x x x %ipc

# files
open path oflags omode =fd
openat dirfd path oflags omode =fd
openat2 dirfd path openhow:3 lu !openat2 =fd
creat path perm =fd
close fd
close_range u u |closerange
read fd rbuf lu
write fd wbuf:2 lu
pread64 fd rbuf lu off64
pwrite64 fd wbuf:2 lu off64
readv fd riov:2 lu
writev fd wiov:2 lu
preadv fd riov:2 lu lohi
pwritev fd wiov:2 lu lohi
preadv2 fd riov:2 lu lohi |rwf
pwritev2 fd wiov:2 lu lohi |rwf
lseek fd ld ^seek
_llseek fd hilo >loff ^seek
stat,lstat path >stat
fstat fd >stat
stat64,lstat64 path >stat64
fstat64 fd >stat64
newfstatat dirfd path >stat |at
fstatat64 dirfd path >stat64 |at
oldstat,oldlstat path outb:32
oldfstat fd outb:32
statx dirfd path atstatx |statx >statx
statfs path >statfs
fstatfs fd >statfs
statfs64 path lu >statfs64
fstatfs64 fd lu >statfs64
ustat x outb:32
ustat@i386 x outb:20
access path |access
faccessat dirfd path |access
faccessat2 dirfd path |access |ataccess
getcwd cbuf lu
chdir,rmdir,unlink,chroot,swapoff,uselib path
acct path
fchdir,fsync,fdatasync,syncfs fd
rename,link path path
symlink str path
renameat dirfd path dirfd path
renameat2 dirfd path dirfd path |rename
linkat dirfd path dirfd path |at
symlinkat str dirfd path
unlinkat dirfd path |at
mkdir path perm
mkdirat dirfd path perm
mknod path mode mkdev
mknodat dirfd path mode mkdev
readlink path cbuf lu
readlinkat dirfd path cbuf lu
chmod path perm
fchmod fd perm
fchmodat dirfd path perm
fchmodat2 dirfd path perm |at
chown,lchown,chown32,lchown32 path uid uid
fchown,fchown32 fd uid uid
fchownat dirfd path uid uid |at
umask perm =oct
utime path p
utimes path <utimes
futimesat dirfd path <utimes
utimensat dirfd path <utimens |at
utimensat_time64 dirfd path <utimens64 |at
truncate path lu
ftruncate fd lu
truncate64 path ulong64
ftruncate64 fd ulong64
fallocate fd |falloc off64 off64
fadvise64 fd off64 lu ^fadvise
fadvise64_64 fd off64 off64 ^fadvise
readahead fd off64 lu
sync_file_range fd off64 off64 |syncrange
flock fd |flock
fcntl fd d x !fcntl +<flock@2 ?1,0xffffffff,6 +<flock@2 ?1,0xffffffff,7 +>flock@2 ?1,0xffffffff,5 +<flock64@2 ?1,0xfffffffe,36 +>flock64@2 ?1,0xffffffff,36 +<fowner@2 ?1,0xffffffff,15 +>fowner@2 ?1,0xffffffff,16
fcntl64 fd d x !fcntl +<flock@2 ?1,0xffffffff,6 +<flock@2 ?1,0xffffffff,7 +>flock@2 ?1,0xffffffff,5 +<flock64@2 ?1,0xffffffff,13 +<flock64@2 ?1,0xffffffff,14 +>flock64@2 ?1,0xffffffff,12 +<fowner@2 ?1,0xffffffff,15 +>fowner@2 ?1,0xffffffff,16
dup fd =fd
dup2 fd fd =fd
dup3 fd fd oflags3 =fd
pipe fds
pipe2 fds oflags3
ioctl fd ioctl ioarg
getdents,getdents64 fd dents lu
readdir fd outb:267 u
sendfile fd fd off lu
sendfile64 fd fd loff lu
splice fd loff fd loff lu |splice
tee fd fd lu |splice
vmsplice fd wiov:2 lu |splice
copy_file_range fd loff fd loff lu u
mount path path str |mount str !mount
umount2 path |umount
umount path
pivot_root path path
move_mount dirfd path dirfd path |movemount
open_tree dirfd path |opentree =fd
open_tree_attr dirfd path |opentree <mountattr:4 lu =fd
mount_setattr dirfd path |mountset <mountattr:4 lu
fsopen str |fsopen =fd
fsmount fd |fsmount |fsmountattr =fd
fspick dirfd path |fspick =fd
fsconfig fd ^fsconfig p p d !fsconfig +str@2 ?1,0xfffffff8,0 +str@3 ?1,0xffffffff,1 +wbuf:4@3 ?1,0xffffffff,2 +path@3 ?1,0xffffffff,3 +path@3 ?1,0xffffffff,4
swapon path |swap
setxattr,lsetxattr path str wbuf:3 lu |xattr
fsetxattr fd str wbuf:3 lu |xattr
getxattr,lgetxattr path str rbuf lu
fgetxattr fd str rbuf lu
listxattr,llistxattr path rbuf lu
flistxattr fd rbuf lu
removexattr,lremovexattr path str
fremovexattr fd str
setxattrat dirfd path |at str p lu
getxattrat dirfd path |at str p lu
listxattrat dirfd path |at outret lu
removexattrat dirfd path |at str
file_getattr dirfd path outarg:3 lu |at
file_setattr dirfd path p lu |at
name_to_handle_at dirfd path p >int |at
open_by_handle_at fd p oflags =fd
inotify_init =fd
inotify_init1 |inotify_init =fd
inotify_add_watch fd path |inotify
inotify_rm_watch fd d
fanotify_init fanclass oflags =fd
fanotify_mark fd |fanmark fanmask dirfd path
quotactl x path u p !quotactl +path@3 ?0,0xffffff00,0x80000200 +<~quotain@3 +>~quotaout@3 +<int@3 ?0,0xfffffc00,0x580000 +<int@3 ?0,0xffffff00,0x580600 +>int@3 ?0,0xffffff00,0x80000400
quotactl_fd fd x u p !quotactl +path@3 ?1,0xffffff00,0x80000200 +<~quotafdin@3 +>~quotafdout@3 +<int@3 ?1,0xfffffc00,0x580000 +<int@3 ?1,0xffffff00,0x580600 +>int@3 ?1,0xffffff00,0x80000400
lookup_dcookie x64 rbuf lu
init_module p lu str
finit_module fd str x
delete_module str |module
kexec_file_load fd fd lu str x
sysfs d x x
sync,vhangup

# processes
execve path argv envc
execveat dirfd path argv envc |at
exit,exit_group d
fork,vfork
clone x p >int ?0,0x100000,0x100000 p p !clone +>int@2 ?0,0x101000,0x1000
clone3 <clonearg:1 lu !clone3 +pidfd8@0
wait4 d waits |wait >rusage
waitpid d waits |wait
waitid ^waitid d >siginfo |wait >rusage
getpid,getppid,gettid,getpgrp,getuid,geteuid,getgid,getegid,getuid32,geteuid32,getgid32,getegid32,sched_yield,setsid,pause,munlockall
getpgid,getsid d
setpgid d d
setuid,setgid,setfsuid,setfsgid,setuid32,setgid32,setfsuid32,setfsgid32 uid
setreuid,setregid,setreuid32,setregid32 uid uid
setresuid,setresgid,setresuid32,setresgid32 uid uid uid
getresuid,getresgid >uid >uid >uid
getresuid@i386,getresgid@i386 outb:2 outb:2 outb:2
getresuid32,getresgid32 >uid >uid >uid
getgroups,getgroups32 d gids
getgroups@i386 d gids16
setgroups,setgroups32 d setgids:0
setgroups@i386 d setgids16:0
capget <caphdr outcap
capset <caphdr incap
prctl x x x x x !prctl +str@1 ?0,0xffffffff,15 +>comm@1 ?0,0xffffffff,16 +str@4 ?0,0xffffffff,0x53564d41 +>int@1 ?0,0xffffffff,2 +>int@1 ?0,0xffffffff,25 +>int@1 ?0,0xffffffff,37 +>long@1 ?0,0xffffffff,40
arch_prctl x x !arch_prctl +>long@1 ?0,0xffffffff,0x1003 +>long@1 ?0,0xffffffff,0x1004
unshare |unshareflags
setns fd |unshareflags
personality x32 =hex !personality
getpriority ^prio d
setpriority ^prio d d
getrlimit,ugetrlimit ^rlimit >rlimit
setrlimit ^rlimit <rlimit
prlimit64 d ^rlimit <rlimit64 >rlimit64
getrusage ^rusage >rusage
ptrace ^ptrace d p p !ptrace +>long@3 ?0,0xffffffff,1 +>long@3 ?0,0xffffffff,2 +>long@3 ?0,0xffffffff,3 +outb:216@3 ?0,0xffffffff,12 +>long@3 ?0,0xffffffff,0x4201 +>siginfo@3 ?0,0xffffffff,0x4202
seccomp ^seccomp |seccompflags p
sched_setaffinity d lu cpus:1
sched_getaffinity d lu rcpus
sched_setscheduler d ^sched <sched
sched_getscheduler d !getscheduler
sched_setparam d <sched
sched_getparam d >sched
sched_get_priority_max,sched_get_priority_min ^sched
sched_rr_get_interval d >timespec
sched_rr_get_interval_time64 d >timespec64
sched_setattr d inattr u
sched_getattr d outattr:2 u u
set_tid_address p
set_robust_list p lu
get_robust_list d >ptr >long
set_thread_area,get_thread_area outb:16
modify_ldt d outret lu
rseq p x32 |rseq x32
membarrier ^membarrier |memflag d !membarrier
getcpu >uid >uid p
kcmp d d ^kcmp u u
pidfd_open d |pidfd =fd
pidfd_getfd fd d x =fd
pidfd_send_signal fd sig <siginfo x
restart_syscall !restart
io_setup u >ptr
io_destroy p
io_submit p ld iocbs:1
io_cancel p iocb >ioevent
io_pgetevents p ld ld >[{ioevent} <timespec pselmask
io_pgetevents_time64 p ld ld >[{ioevent} <timespec64 pselmask
io_getevents p ld ld >[{ioevent} <timespec
io_uring_setup u <uringin =fd !iouringsetup +outb:120@1
io_uring_enter fd u u |uringenter wset:5 lu
io_uring_register fd ^uringreg <~uring:3 u !iouringregister +<[u32:3@2 ?1,0xffffffff,19 +outints:3@2 ?1,0xffffffff,19 +cpus:3@2 ?1,0xffffffff,17 +probe:3@2 ?1,0xffffffff,8
bpf ^bpf <~bpf:2 u
perf_event_open perfattr d d fd |perfflag =fd
syslog d outret d
uname >utsname
olduname outb:325
oldolduname outb:45
sysinfo >sysinfo
times >tms
nice d
reboot x x x p
sethostname,setdomainname wbuf:1 lu
add_key str str wbuf:3 lu d
request_key str str str d
keyctl ^keyctl x x x x
landlock_create_ruleset <landlock:1 lu |landlocknew =fd
landlock_add_rule fd ^landlockrule <~landlockrule x32
landlock_restrict_self fd x32
statmount p outarg:2 lu x
listmount p outret8 lu x
lsm_get_self_attr x p p x
lsm_set_self_attr x p u x
lsm_list_modules p p x
ioprio_get ^ioprio d !ioprioget
ioprio_set ^ioprio d ioprio

# signals
kill d sig
tkill d sig
tgkill d d sig
rt_sigaction sig <sigaction >sigaction lu
sigaction sig <oldsigaction >oldsigaction
signal sig handler
rt_sigprocmask ^sighow wset:3 rset:3 lu
sigprocmask ^sighow <oldsigset >oldsigset
rt_sigpending rset:1 lu
sigpending >oldsigset
rt_sigsuspend wset:1 lu
rt_sigtimedwait wset:3 >siginfo <timespec lu !sigtimedwait
rt_sigtimedwait_time64 wset:3 >siginfo <timespec64 lu !sigtimedwait
rt_sigqueueinfo d sig <siginfo
rt_tgsigqueueinfo d d sig <siginfo
rt_sigreturn,sigreturn !sigreturn
sigaltstack <stack >stack
signalfd fd wset:2 lu =fd
signalfd4 fd wset:2 lu |sfd =fd
alarm u
getitimer ^itimer >itimerval
setitimer ^itimer <itimerval >itimerval

# time
nanosleep <timespec rem
clock_nanosleep clock |timer <timespec rem
clock_nanosleep_time64 clock |timer <timespec64 rem64
clock_gettime,clock_getres clock >timespec
clock_gettime64,clock_getres_time64 clock >timespec64
clock_settime clock <timespec
clock_settime64 clock <timespec64
clock_adjtime,clock_adjtime64 clock outb:208
clock_adjtime@i386 clock outb:128
adjtimex outb:208
adjtimex@i386 outb:128
gettimeofday >timeval >tz
settimeofday <timeval <tz
time >long
stime <long
timer_create clock <sigevent >int
timer_settime d |timer <itimerspec >itimerspec
timer_settime64 d |timer <itimerspec64 >itimerspec64
timer_gettime d >itimerspec
timer_gettime64 d >itimerspec64
timer_getoverrun,timer_delete d
timerfd_create clock |tfd =fd
timerfd_settime fd |tfdset <itimerspec >itimerspec
timerfd_settime64 fd |tfdset <itimerspec64 >itimerspec64
timerfd_gettime fd >itimerspec
timerfd_gettime64 fd >itimerspec64
futex p x u +>int@0 ?1,0x7f,6 +>int@0 ?1,0x7f,7 +>int@0 ?1,0x7f,8 +>int@0 ?1,0x7f,13 +>int@4 ?1,0x7f,5 <timespec ?1,0x7d,0 +<timespec@3 ?1,0x7f,6 +<timespec@3 ?1,0x7f,9 +<timespec@3 ?1,0x7f,11 +<timespec@3 ?1,0x7f,13 p x !futex
futex_time64 p x u <timespec64 ?1,0x7f,0 +<timespec64@3 ?1,0x7f,6 +<timespec64@3 ?1,0x7f,9 +<timespec64@3 ?1,0x7f,11 +<timespec64@3 ?1,0x7f,13 p x !futex
futex_waitv <[{waitv}:1 u x32 <timespec64 clock
futex_wake p lu d |futex2
futex_wait p lu lu |futex2 <timespec64 clock
futex_requeue p x d d

# descriptors that wait
poll pollfd:1 u d !poll
ppoll pollfd:1 u <timespec wset:4 lu !ppoll +>timespec@2
ppoll_time64 pollfd:1 u <timespec64 wset:4 lu !ppoll +>timespec64@2
select d fdset fdset fdset <timeval !select +>timeval@4
_newselect d fdset fdset fdset <timeval !select +>timeval@4
select@i386 block %select
select@sub d fdset fdset fdset <timeval !select +>timeval@4
pselect6 d fdset fdset fdset <timespec pselmask !pselect +>timespec@4
pselect6_time64 d fdset fdset fdset <timespec64 pselmask !pselect +>timespec64@4
epoll_create d =fd
epoll_create1 |epflags =fd
epoll_ctl fd ^epollop fd <epoll
epoll_wait fd events d d
epoll_pwait fd events d d wset:5 lu
epoll_pwait2 fd events d <timespec64 wset:5 lu
eventfd u =fd
eventfd2 u |efd =fd

# sockets
socket ^af sockty proto =fd
socketpair ^af sockty proto fds
bind,connect fd waddr:2 d
listen fd d
accept fd raddr:2 len =fd
accept4 fd raddr:2 len |sockflags =fd
getsockname,getpeername fd raddr:2 len
sendto fd sbuf:2 lu |msgflags waddr:5 d
send fd sbuf:2 lu |msgflags
recvfrom fd gbuf lu |msgflags raddr:5 len
recv fd gbuf lu |msgflags
sendmsg fd wmsg |msgflags
recvmsg fd rmsg |msgflags
sendmmsg fd wmmsg:2 u |msgflags
recvmmsg fd rmmsg:2 u |msgflags <timespec !recvmmsg +>timespec@4
recvmmsg_time64 fd rmmsg:2 u |msgflags <timespec64 !recvmmsg +>timespec64@4
shutdown fd ^shut
setsockopt fd ^sol sockopt optval:4 d
getsockopt fd ^sol sockopt optbuf:4 len
socketcall sockcall block %socketcall

# System V and POSIX queues
semget key d ipcflg
semop d <[{sembuf}:2 u
semtimedop d <[{sembuf}:2 u <timespec
semtimedop_time64 d <[{sembuf}:2 u <timespec64
semctl d d ctl p
msgget key ipcflg
msgsnd d msgbuf:2 lu |ipcmsg
msgrcv d msgout lu ld |ipcmsg
msgctl d ctl p +outb:120@2 ?1,0xfffffeff,2
msgctl@i386 d ctl p +outb:88@2 ?1,0xfffffeff,2
mq_open str oflags omode mqnew =fd
mq_unlink str
mq_timedsend fd wbuf:2 lu u <timespec
mq_timedsend_time64 fd wbuf:2 lu u <timespec64
mq_timedreceive fd rbuf lu >int <timespec
mq_timedreceive_time64 fd rbuf lu >int <timespec64
mq_notify fd <sigevent
mq_getsetattr fd <mqattr >mqattr
getrandom xbuf lu |grnd
`
