// Command goflat makes zTOC blobs from seeds with the FlatBuffers library the reference uses, and
// prints their digests. tests/rust/ztoc_flat.rs makes the same fields from the same seeds.
//
//	go run . 100 5000    one line for each of the seeds 0..100, one for all of 0..5000 together
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"sort"
	"strconv"

	flatbuffers "github.com/google/flatbuffers/go"
)

// random is SplitMix64, small enough to be written twice.
type random struct{ state uint64 }

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func (r *random) below(limit uint64) uint64 { return r.next() % limit }

// text is empty one time in four: empty strings are objects too.
func (r *random) text(maxLen uint64) string {
	if r.below(4) == 0 {
		return ""
	}
	bytes := make([]byte, r.below(maxLen+1))
	for i := range bytes {
		bytes[i] = byte(r.next())
	}
	return string(bytes)
}

func (r *random) letters(maxLen uint64) string {
	bytes := make([]byte, r.below(maxLen+1))
	for i := range bytes {
		bytes[i] = 'a' + byte(r.below(26))
	}
	return string(bytes)
}

// int64 is 0, the default, one time in three.
func (r *random) int64() int64 {
	switch r.below(6) {
	case 0, 1:
		return 0
	case 2:
		return int64(r.below(4096))
	case 3:
		return 1 << r.below(63)
	case 4:
		return int64(r.next())
	default:
		return -int64(r.below(100))
	}
}

func (r *random) uint32() uint32 {
	switch r.below(3) {
	case 0:
		return 0
	case 1:
		return uint32(r.below(70000))
	default:
		return uint32(r.next())
	}
}

var words = []string{"reg", "hardlink", "symlink", "char", "block", "dir", "fifo", ""}

type entry struct {
	name, kind, linkname, uname, gname, modTime string
	offset, size, mode, devmajor, devminor      int64
	uid, gid                                    uint32
	xattrs                                      map[string]string
}

type ztoc struct {
	version, buildTool       string
	compressed, uncompressed int64
	entries                  []entry
	checkpoints              []byte
	digests                  []string
	algorithm                int8
	maxSpanID                int32
}

func (r *random) entry() entry {
	var e entry
	e.name = r.text(120)
	e.kind = words[r.below(8)]
	e.offset = r.int64()
	e.size = r.int64()
	e.linkname = r.text(60)
	e.mode = r.int64()
	e.uid = r.uint32()
	e.gid = r.uint32()
	e.uname = r.text(12)
	e.gname = r.text(12)
	e.modTime = r.text(35)
	e.devmajor = r.int64()
	e.devminor = r.int64()
	e.xattrs = map[string]string{}
	if r.below(3) == 0 {
		for count := r.below(6); count > 0; count-- {
			key := r.text(30)
			e.xattrs[key] = r.text(50)
		}
	}
	return e
}

func (r *random) ztoc() ztoc {
	var z ztoc
	z.version = r.text(8)
	z.buildTool = r.text(40)
	z.compressed = r.int64()
	z.uncompressed = r.int64()
	limits := []uint64{1, 2, 8, 200}
	for count := r.below(limits[r.below(4)]); count > 0; count-- {
		z.entries = append(z.entries, r.entry())
	}
	z.checkpoints = make([]byte, r.below(3000))
	for i := range z.checkpoints {
		z.checkpoints[i] = byte(r.next())
	}
	for count := r.below(20); count > 0; count-- {
		z.digests = append(z.digests, r.letters(72))
	}
	z.algorithm = int8(r.below(4))
	z.maxSpanID = int32(r.int64())
	return z
}

func vector(b *flatbuffers.Builder, offsets []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(4, len(offsets), 4)
	for i := len(offsets) - 1; i >= 0; i-- {
		b.PrependUOffsetT(offsets[i])
	}
	return b.EndVector(len(offsets))
}

func (e entry) write(b *flatbuffers.Builder) flatbuffers.UOffsetT {
	name := b.CreateString(e.name)
	kind := b.CreateString(e.kind)
	linkname := b.CreateString(e.linkname)
	uname := b.CreateString(e.uname)
	gname := b.CreateString(e.gname)
	modTime := b.CreateString(e.modTime)
	var keys []string
	for key := range e.xattrs {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var records []flatbuffers.UOffsetT
	for _, key := range keys {
		k := b.CreateString(key)
		v := b.CreateString(e.xattrs[key])
		b.StartObject(2)
		b.PrependUOffsetTSlot(0, k, 0)
		b.PrependUOffsetTSlot(1, v, 0)
		records = append(records, b.EndObject())
	}
	xattrs := vector(b, records)
	b.StartObject(14)
	b.PrependUOffsetTSlot(0, name, 0)
	b.PrependUOffsetTSlot(1, kind, 0)
	b.PrependInt64Slot(2, e.offset, 0)
	b.PrependInt64Slot(3, e.size, 0)
	b.PrependUOffsetTSlot(4, linkname, 0)
	b.PrependInt64Slot(5, e.mode, 0)
	b.PrependUint32Slot(6, e.uid, 0)
	b.PrependUint32Slot(7, e.gid, 0)
	b.PrependUOffsetTSlot(8, uname, 0)
	b.PrependUOffsetTSlot(9, gname, 0)
	b.PrependUOffsetTSlot(10, modTime, 0)
	b.PrependInt64Slot(11, e.devmajor, 0)
	b.PrependInt64Slot(12, e.devminor, 0)
	b.PrependUOffsetTSlot(13, xattrs, 0)
	return b.EndObject()
}

func (z ztoc) write() []byte {
	b := flatbuffers.NewBuilder(0)
	version := b.CreateString(z.version)
	buildTool := b.CreateString(z.buildTool)
	entries := make([]flatbuffers.UOffsetT, len(z.entries))
	for i := len(z.entries) - 1; i >= 0; i-- {
		entries[i] = z.entries[i].write(b)
	}
	metadata := vector(b, entries)
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, metadata, 0)
	toc := b.EndObject()
	checkpoints := b.CreateByteVector(z.checkpoints)
	var texts []flatbuffers.UOffsetT
	for _, digest := range z.digests {
		texts = append(texts, b.CreateString(digest))
	}
	digests := vector(b, texts)
	b.StartObject(4)
	b.PrependInt32Slot(1, z.maxSpanID, 0)
	b.PrependUOffsetTSlot(2, digests, 0)
	b.PrependUOffsetTSlot(3, checkpoints, 0)
	b.PrependInt8Slot(0, z.algorithm, 1)
	info := b.EndObject()
	b.StartObject(6)
	b.PrependUOffsetTSlot(0, version, 0)
	b.PrependUOffsetTSlot(1, buildTool, 0)
	b.PrependUOffsetTSlot(4, toc, 0)
	b.PrependInt64Slot(2, z.compressed, 0)
	b.PrependInt64Slot(3, z.uncompressed, 0)
	b.PrependUOffsetTSlot(5, info, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}

func argument(n int) uint64 {
	if n >= len(os.Args) {
		fmt.Fprintln(os.Stderr, "usage: goflat LINES ALL")
		os.Exit(2)
	}
	value, err := strconv.ParseUint(os.Args[n], 10, 32)
	if err != nil {
		fmt.Fprintln(os.Stderr, "goflat:", err)
		os.Exit(2)
	}
	return value
}

func main() {
	lines, all := argument(1), argument(2)
	total := sha256.New()
	for seed := uint64(0); seed < all; seed++ {
		blob := (&random{state: seed}).ztoc().write()
		digest := sha256.Sum256(blob)
		if seed < lines {
			fmt.Printf("%d %d %x\n", seed, len(blob), digest)
		}
		total.Write(digest[:])
	}
	fmt.Printf("0..%d sha256-of-digests %x\n", all, total.Sum(nil))
}
