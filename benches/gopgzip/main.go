// Gopgzip compresses stdin to stdout with pgzip's defaults: blocks of 1 MiB, compressed in
// parallel, each with the previous block as its dictionary and followed by a sync flush.
package main

import (
	"io"
	"log"
	"os"

	"github.com/klauspost/pgzip"
)

func main() {
	out := pgzip.NewWriter(os.Stdout)
	_, err := io.Copy(out, os.Stdin)
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}
