package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// csi-sanity judges the driver by the specification; these are what it has no second node for.

func network(t *testing.T) *driver {
	t.Helper()
	store, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"a", "b"} {
		instance := &driver{scope: scopeNetwork, node: node, store: store}
		if err := instance.announceNode(); err != nil {
			t.Fatal(err)
		}
	}
	return &driver{name: "old", fileSystem: "ext4", scope: scopeNetwork, store: store, delays: t.TempDir()}
}

var mounted = &csi.VolumeCapability{
	AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
}

func create(t *testing.T, d *driver) string {
	t.Helper()
	made, err := d.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{mounted},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.GetVolume().GetVolumeId()
}

func attach(ctx context.Context, d *driver, id, node string) error {
	_, err := d.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
		VolumeId: id, NodeId: node, VolumeCapability: mounted,
	})
	return err
}

func TestAVolumeIsAttachedToOneNode(t *testing.T) {
	d := network(t)
	id := create(t, d)
	if err := attach(t.Context(), d, id, "a"); err != nil {
		t.Fatal(err)
	}
	if err := attach(t.Context(), d, id, "b"); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("attached twice: %v", err)
	}
	if _, err := d.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("deleted while attached: %v", err)
	}
	// A late detach from a node that it is not attached to changes nothing.
	for _, node := range []string{"b", "a"} {
		if _, err := d.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: node}); err != nil {
			t.Fatal(err)
		}
		err := attach(t.Context(), d, id, "b")
		if want := map[string]codes.Code{"b": codes.FailedPrecondition, "a": codes.OK}[node]; status.Code(err) != want {
			t.Fatalf("after a detach from %s: %v", node, err)
		}
	}
}

func TestAnUnattachedVolumeIsNotMounted(t *testing.T) {
	d := network(t)
	id := create(t, d)
	node := &driver{name: "old", fileSystem: "ext4", scope: scopeNetwork, node: "a", store: d.store}
	_, err := node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: t.TempDir(), VolumeCapability: mounted,
	})
	if status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("staged without an attachment: %v", err)
	}
}

func TestACallerMayGiveUpADelayedAttach(t *testing.T) {
	d := network(t)
	id := create(t, d)
	if err := os.WriteFile(filepath.Join(d.delays, "attach"), []byte("1h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := attach(ctx, d, id, "a"); status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("the delay did not count: %v", err)
	}
	if err := os.Remove(filepath.Join(d.delays, "attach")); err != nil {
		t.Fatal(err)
	}
	if err := attach(t.Context(), d, id, "b"); err != nil {
		t.Fatalf("the attach that was given up left something: %v", err)
	}
}

func TestAnIdDoesNotLeadOutOfTheFolder(t *testing.T) {
	d := network(t)
	outside := filepath.Join(filepath.Dir(d.store.folder), "outside.json")
	if err := os.WriteFile(outside, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "../outside"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Fatal("it was removed")
	}
	if idOf("../outside") == "../outside" {
		t.Fatal("a name became a path")
	}
}

func TestSizesFitTheFileSystem(t *testing.T) {
	for _, row := range []struct {
		required, limit int64
		fileSystem      string
		want            int64
	}{
		{0, 0, "ext4", defaultBytes},
		{0, 100 * mebibyte, "ext4", 100 * mebibyte},
		{1, 0, "ext4", minimumExt4},
		{1, 0, "xfs", minimumXFS},
		{1, 100 * mebibyte, "xfs", -1},
		{10*mebibyte + 1, 0, "ext4", 11 * mebibyte},
		{limitBytes + 1, 0, "ext4", -1},
		{-1, 0, "ext4", -1},
	} {
		got, err := size(&csi.CapacityRange{RequiredBytes: row.required, LimitBytes: row.limit}, row.fileSystem)
		if err != nil {
			got = -1
		}
		if got != row.want {
			t.Errorf("%+v: %d", row, got)
		}
	}
}
