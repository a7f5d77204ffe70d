// Gopgzip compresses stdin to stdout as pgzip does by default: blocks of 1 MiB, compressed by all cores
// at once, each with the one before as its dictionary, and a sync flush after each.
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
