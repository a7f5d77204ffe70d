// Command gotar says how Go's archive/tar reads archives, as the judge of the Rust readers.
//
// Its argument says what for: "index" (global headers and unknown types are errors, as in the
// reference indexer), "read" (global headers are ignored, as in containerd, and each line goes on
// with the hash of what the entry's data reads as), or "archive" (as "index" without global headers,
// and unknown types are files).
//
// Input: any number of archives, each after its length as 8 little-endian bytes. Output per
// archive: a line for every entry that Next returns, then "end POSITION" or "error". Texts are in
// hex; POSITION counts the bytes that archive/tar has taken.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
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

// mostRead is how much of an entry's data is read: the holes of a sparse file may be of any size.
const mostRead = 1 << 17

// next returns the next entry that is not ignored.
func next(reader *tar.Reader, purpose string) (*tar.Header, error) {
	for {
		entry, err := reader.Next()
		if err != nil || entry.Typeflag != tar.TypeXGlobalHeader || purpose == "index" {
			return entry, err
		}
	}
}

// word returns what an entry is listed as; nothing if it is refused.
func word(entry *tar.Header, purpose string) string {
	if word := words[entry.Typeflag]; word != "" {
		return word
	}
	if purpose == "archive" && entry.Typeflag != tar.TypeGNUSparse {
		return "reg"
	}
	return ""
}

// dataReader reads the data of one entry after the other, past any that cannot be read.
type dataReader struct {
	archive []byte
	reader  *tar.Reader
	done    int
}

func (d *dataReader) next() string {
	if d.reader == nil {
		d.reader = tar.NewReader(bytes.NewReader(d.archive))
		for i := 0; i < d.done; i++ {
			next(d.reader, "read")
		}
	}
	next(d.reader, "read")
	d.done++
	hash, piece := sha256.New(), make([]byte, 1<<16)
	for left := mostRead; left > 0; {
		n, err := d.reader.Read(piece[:min(left, len(piece))])
		hash.Write(piece[:n])
		left -= n
		if err == io.EOF {
			break
		}
		if err != nil {
			d.reader = nil
			return "error"
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func judge(archive []byte, purpose string, out io.Writer) {
	stream := &counter{from: bytes.NewReader(archive)}
	reader := tar.NewReader(stream)
	data := dataReader{archive: archive}
	for {
		entry, err := next(reader, purpose)
		if err == io.EOF {
			fmt.Fprintln(out, "end", stream.taken)
			return
		}
		if err != nil || word(entry, purpose) == "" {
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
		fmt.Fprintf(out, "%s name=%x offset=%d size=%d link=%x mode=%d uid=%d gid=%d uname=%x gname=%x time=%s dev=%d,%d pax=%s",
			word(entry, purpose), entry.Name, stream.taken, entry.Size, entry.Linkname, entry.Mode,
			uint32(entry.Uid), uint32(entry.Gid), entry.Uname, entry.Gname, modTime,
			entry.Devmajor, entry.Devminor, strings.Join(records, ","))
		if purpose == "read" {
			fmt.Fprint(out, " data=", data.next())
		}
		fmt.Fprintln(out)
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
		judge(archive, os.Args[1], out)
	}
}
