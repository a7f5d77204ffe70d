// Stargz serves the stargz snapshotter, built from Debian's sources of it, with the settings of a
// default installation but two: registries are read over plain HTTP, and nothing is fetched in the
// background, so that the bytes fetched are those that the program needs.
//
//	stargz DIRECTORY SOCKET
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/reference"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/containerd/stargz-snapshotter/metadata/memory"
	"github.com/containerd/stargz-snapshotter/snapshot"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: stargz DIRECTORY SOCKET")
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func serve(directory, socket string) error {
	everywhere := func(string) (bool, error) { return true, nil }
	registries := docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(everywhere),
		// The file system uses the client's transport, which must not be nil.
		docker.WithClient(&http.Client{Transport: http.DefaultTransport}),
	)
	hosts := func(name reference.Spec) ([]docker.RegistryHost, error) {
		return registries(name.Hostname())
	}
	settings := config.Config{NoBackgroundFetch: true, NoPrometheus: true}
	files, err := fs.NewFilesystem(
		filepath.Join(directory, "files"),
		settings,
		fs.WithGetSources(source.FromDefaultLabels(hosts)),
		fs.WithMetadataStore(memory.NewReader),
	)
	if err != nil {
		return err
	}
	snapshotter, err := snapshot.NewSnapshotter(
		context.Background(),
		filepath.Join(directory, "snapshots"),
		files,
		snapshot.AsynchronousRemove,
	)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshots.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	return server.Serve(listener)
}
