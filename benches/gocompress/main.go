// Gocompress compresses stdin to stdout as container tools do: compress/gzip, fed in 32 KiB steps.
package main

import (
	"compress/gzip"
	"flag"
	"io"
	"log"
	"os"
)

func main() {
	level := flag.Int("level", gzip.DefaultCompression, "compression level, -2 (Huffman only) to 9")
	flag.Parse()
	out, err := gzip.NewWriterLevel(os.Stdout, *level)
	if err == nil {
		// The struct hides os.File's WriterTo, so that CopyBuffer actually uses its buffer.
		_, err = io.CopyBuffer(out, struct{ io.Reader }{os.Stdin}, make([]byte, 32<<10))
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}
