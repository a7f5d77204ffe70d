// Runs containerd's own test suite for snapshotters against one that listens on a socket.
//
// Each test gets a new snapshotter: the program in $SNAPSHOTTER is started with a root directory and
// the path of a socket.
package gosnapshots

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

func start(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	address := filepath.Join(filepath.Dir(root), "s")
	command := exec.Command("/bin/sh", "-c", os.Getenv("SNAPSHOTTER"), "sh", root, address)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := command.Start(); err != nil {
		return nil, nil, err
	}
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		return nil, nil, fmt.Errorf("the snapshotter has not started: %w", err)
	}
	connection, err := grpc.Dial("unix://"+address,
		grpc.WithInsecure())
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		connection.Close()
		command.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(time.Minute, func() { command.Process.Kill() })
		defer timer.Stop()
		return command.Wait()
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "tocsin"), stop, nil
}

func TestSuite(t *testing.T) {
	testsuite.SnapshotterSuite(t, "tocsin", start)
}
