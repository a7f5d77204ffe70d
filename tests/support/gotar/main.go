// Command gotar says how Go's archive/tar reads archives, as the judge of the Rust scanner.
//
// Input: any number of archives, each after its length as 8 little-endian bytes. Output per
// archive: a line for every entry that Next returns, then "end POSITION" or "error". Texts are in
// hex; POSITION counts the bytes that archive/tar has taken.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// counter hides everything but Read, as a decompressor would, and counts.
type counter struct {
	from  io.Reader
	taken int64
}

func (c *counter) Read(into []byte) (int, error) {
	n, err := c.from.Read(into)
	c.taken += int64(n)
	return n, err
}

var words = map[byte]string{
	tar.TypeReg: "reg", tar.TypeLink: "hardlink", tar.TypeSymlink: "symlink", tar.TypeChar: "char",
	tar.TypeBlock: "block", tar.TypeDir: "dir", tar.TypeFifo: "fifo",
}

func judge(archive []byte, out io.Writer) {
	stream := &counter{from: bytes.NewReader(archive)}
	reader := tar.NewReader(stream)
	for {
		entry, err := reader.Next()
		if err == io.EOF {
			fmt.Fprintln(out, "end", stream.taken)
			return
		}
		if err != nil || words[entry.Typeflag] == "" {
			fmt.Fprintln(out, "error")
			return
		}
		// The error of an impossible year is ignored, as in the reference indexer.
		modTime, _ := entry.ModTime.UTC().MarshalText()
		var keys, records []string
		for key := range entry.PAXRecords {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			records = append(records, fmt.Sprintf("%x=%x", key, entry.PAXRecords[key]))
		}
		fmt.Fprintf(out, "%s name=%x offset=%d size=%d link=%x mode=%d uid=%d gid=%d uname=%x gname=%x time=%s dev=%d,%d pax=%s\n",
			words[entry.Typeflag], entry.Name, stream.taken, entry.Size, entry.Linkname, entry.Mode,
			uint32(entry.Uid), uint32(entry.Gid), entry.Uname, entry.Gname, modTime,
			entry.Devmajor, entry.Devminor, strings.Join(records, ","))
	}
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		var size uint64
		if binary.Read(in, binary.LittleEndian, &size) != nil {
			return
		}
		archive := make([]byte, size)
		if _, err := io.ReadFull(in, archive); err != nil {
			fmt.Fprintln(os.Stderr, "gotar: input ends inside an archive")
			os.Exit(1)
		}
		judge(archive, out)
	}
}
