package analyze

import (
	"path"
	"strings"

	"memtrace/replay"
)

// allocators are functions that hand memory on: who calls them is who wants it. A
// pattern is of a name without parameters; * stands for any characters.
var allocators = []string{
	// libc, and wrappers that every other program has
	"malloc", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc", "posix_memalign", "valloc", "pvalloc", "free", "cfree",
	"*_int_malloc", "_int_*", "sysmalloc*", "systrim*", "tcache_init*", "arena_get*", "new_heap*", "alloc_new_heap*", "grow_heap*", "sysmalloc_mmap*",
	"*morecore*", "*libc_malloc*", "*libc_calloc*", "*libc_realloc*", "*libc_memalign*", "*libc_valloc*", "malloc_hook_ini*", "ptmalloc_init*",
	"mmap", "mmap64", "*_mmap", "*_mmap64", "munmap", "mremap", "mprotect", "madvise", "brk", "sbrk", "*_brk", "*_sbrk", "syscall",
	"strdup", "strndup", "asprintf", "vasprintf", "*libc_strdup*", "*_IO_file_doallocate*", "*_IO_doallocbuf*",
	"pthread_create", "*pthread_create*", "allocate_stack*", "setup_stack_prot*", "create_thread*", "clone", "*clone_internal*",
	"xmalloc", "xcalloc", "xrealloc", "xzalloc", "xstrdup", "xstrndup", "xnmalloc", "xnrealloc", "x2nrealloc", "x2realloc",
	"*alloc*", "*Alloc*", "*_strdup", "*_memdup",
	// C++
	"operator new*", "std::*", "__gnu_cxx::*", "*@plt",
	// other allocators
	"je_*", "tc_*", "tcmalloc::*", "mi_*", "_mi_*", "sys_alloc*", "g_malloc*", "g_try_malloc*", "g_realloc*", "g_slice_alloc*", "g_slice_copy", "g_new*",
	"g_strdup*", "zmalloc*", "zcalloc*", "zrealloc*", "ztrymalloc*", "ztrycalloc*", "ztryrealloc*", "apr_palloc*", "apr_pcalloc*", "apr_allocator_*",
	// Python
	"_PyMem_*", "PyMem_*", "_PyObject_Malloc*", "_PyObject_Calloc*", "_PyObject_Realloc*", "PyObject_Malloc", "PyObject_Calloc", "PyObject_Realloc",
	"pymalloc_*", "new_arena*", "allocate_from_new_pool*", "arena_map_*", "_PyObject_Arena*", "_PyObject_GC_*", "PyObject_GC_*", "_PyObject_New*",
	"PyType_GenericAlloc", "_PyType_AllocNoTrack*", "gc_alloc*",
	// Go, Rust
	"runtime.*", "internal/runtime/*", "__rust_alloc*", "__rust_realloc*", "__rdl_alloc*", "__rdl_realloc*", "__rg_alloc*", "__rustc::*", "alloc::*", "<alloc::*", "hashbrown::*",
	"<std::*", "<hashbrown::*",
	// V8 and node
	"v8::base::*", "v8::internal::*Alloc*", "v8::internal::Heap::*", "v8::internal::*Space::*", "v8::internal::*Heap::*", "v8::internal::VirtualMemory*",
	"cppgc::*", "node::*Alloc*", "uv__malloc", "uv__calloc", "uv__realloc",
	// HotSpot
	"os::*", "os::Linux::*", "AllocateHeap*", "*ArenaObj*", "CHeapObj*", "ReservedSpace::*", "ReservedHeapSpace::*", "VirtualSpace::*", "Arena::*", "Chunk::*",
	"ChunkPool::*", "metaspace::*", "Metaspace::*",
}

// allocatorFiles are files all of whose functions are.
var allocatorFiles = []string{"libjemalloc*", "libtcmalloc*", "libmimalloc*", "libhoard*", "librpmalloc*", "libasan*"}

// libcs are files whose functions without a name may be an allocator's: those of a
// stripped libc are.
var libcs = []string{"libc.so*", "libc-2*", "libpthread*", "ld-linux*", "ld-musl*", "libc.musl*"}

// skipper decides which frames hand memory on.
type skipper struct {
	patterns, files []string
	is              map[*replay.FrameName]bool
}

// newSkipper makes one of what the user says: "none" for no allocator, and patterns of
// functions or files to be taken for one.
func newSkipper(user []string) *skipper {
	k := &skipper{is: map[*replay.FrameName]bool{}}
	none := false
	for _, s := range user {
		if s == "none" {
			none = true
			continue
		}
		k.patterns, k.files = append(k.patterns, s), append(k.files, s)
	}
	if !none {
		k.patterns, k.files = append(k.patterns, allocators...), append(k.files, allocatorFiles...)
	}
	return k
}

func anyLike(patterns []string, s string) bool {
	for _, p := range patterns {
		if replay.Like(p, s) {
			return true
		}
	}
	return false
}

// function says whether a function is to be skipped.
func (k *skipper) function(name string) bool { return name != "" && anyLike(k.patterns, name) }

// frame says whether a frame is to be skipped; unsure: if one further out is.
func (k *skipper) frame(n *replay.FrameName) (skip, unsure bool) {
	if is, known := k.is[n]; known {
		skip = is
	} else {
		skip = k.function(n.Short) || n.Path != "" && anyLike(k.files, path.Base(n.Path))
		k.is[n] = skip
	}
	return skip, !skip && n.Function == "" && len(k.patterns) > 0 && inLibc(n.Path)
}

func inLibc(file string) bool {
	return strings.HasPrefix(file, "/") && anyLike(libcs, path.Base(file)) || file == "[vdso]"
}
