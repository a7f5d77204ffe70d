// Command gojson reads one JSON document a line and prints what Go makes of it.
//
// It is the judge of tocsin.model.go_json. A line is {"kind": "manifest" | "index" | "any", "hex":
// "<the document in hexadecimal>"}; the answer is the document decoded into the Go struct and
// marshalled again, or "error". The structs have the fields and tags of image-spec 1.1.1.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

type platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	Platform     *platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type question struct {
	Kind string `json:"kind"`
	Hex  string `json:"hex"`
}

func answer(line []byte) string {
	var q question
	if err := json.Unmarshal(line, &q); err != nil {
		return "bad question"
	}
	document, err := hex.DecodeString(q.Hex)
	if err != nil {
		return "bad question"
	}
	var into any
	switch q.Kind {
	case "manifest":
		into = &manifest{}
	case "index":
		into = &index{}
	default:
		into = new(map[string]string)
	}
	if err := json.Unmarshal(document, into); err != nil {
		return "error"
	}
	out, err := json.Marshal(into)
	if err != nil {
		return "error"
	}
	return string(out)
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			fmt.Println(answer(line))
		}
		if err != nil {
			return
		}
	}
}
