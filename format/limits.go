package format

// The limits of the format: docs/format.md lists them, and a test compares.
// Readers refuse what exceeds them before they allocate or loop; writers stay
// far below.
const (
	MaxHeader      = 64 << 10 // file header with its extension, bytes
	MaxExt         = 4 << 10  // extension of a chunk header, bytes
	MaxPayload     = 16 << 20 // decoded payload of a chunk, bytes
	MaxStored      = MaxPayload + 64<<10
	MaxRows        = 1 << 16   // events in an EVENT chunk
	MaxArgs        = 6         // arguments of a system call
	MaxRegs        = 64        // registers of a thread
	MaxXState      = 16 << 10  // bytes of its extended state
	MaxBufs        = 1 << 16   // buffers of a system call
	MaxColumns     = 8192      // columns of an EVENT chunk
	MaxFramePages  = 64        // pages in a RAW chunk
	MaxPatch       = 2048      // bytes of a patch
	MaxPatchDepth  = 64        // patches between a page and its raw page
	MaxChain       = 1 << 20   // decoded frame bytes that one page may need
	MaxPageNo      = 1<<52 - 1 // highest virtual page number
	MaxVMAs        = 1 << 20   // mappings of an address space
	MaxThreads     = 4 << 20   // live threads
	MaxMMs         = 4 << 20   // live address spaces
	MaxName        = 4106      // bytes of the name of a mapping: PATH_MAX and " (deleted)"
	MaxGroupBlob   = 64 << 20  // blob bytes of a group
	MaxEventPages  = 1 << 24   // pages of data that one event may bring
	MaxModules     = 1 << 20   // modules
	MaxBuildID     = 256       // bytes of a build id
	MaxNodes       = 16 << 20  // nodes of the tree of stacks
	MaxNodeRows    = 1 << 16   // nodes of a STACK chunk, modules of a MODULE chunk
	MaxDepth       = 4096      // frames of a stack
	MaxText        = 64 << 20  // bytes of a text
	MaxRefs        = 1 << 16   // references in a REFS chunk
	MaxRefMMs      = 1 << 16   // address spaces in a REFS chunk
	MaxFiles       = 1 << 16   // packed files
	MaxFileList    = 1 << 20   // decoded bytes of a FILE chunk
	MaxExtents     = 1 << 20   // extents of all packed files
	MaxPhaseRanges = 1 << 20   // ranges of pages that a phase lists
	MaxBegin       = 1 << 56   // first step of a log that does not begin with its run
)

// What writers do.
const (
	groupSteps    = 8192      // events in a group
	groupState    = 256 << 10 // bytes of a STATE or REFS chunk before it goes out
	groupRefs     = MaxRefs   // references that end a REFS chunk; a quarter of them goes with the timer
	refTicks      = 4         // and all when it has come so often
	groupBlob     = 1 << 20   // blob bytes that end a group
	frameBytes    = 256 << 10 // a RAW, PATCH or BLOB frame
	indexChunks   = 256       // chunks between INDEX chunks
	indexBytes    = 32 << 20  // or bytes
	epochSteps    = 65536     // steps between keyframes
	epochUpdates  = 65536     // or page updates
	epochGroups   = 32        // or groups
	dedupeBuckets = 64 << 10
)
