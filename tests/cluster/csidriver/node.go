package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"
)

// mounter is the library that the drivers of real providers mount with.
var mounter = mount.NewSafeFormatAndMount(mount.New(""), utilexec.New())

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	if err := d.announceNode(); err != nil {
		return nil, err
	}
	response := &csi.NodeGetInfoResponse{NodeId: d.node}
	if d.scope == scopeNode {
		response.AccessibleTopology = d.topology()
	}
	return response, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	response := &csi.NodeGetCapabilitiesResponse{}
	for _, kind := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: kind}},
		})
	}
	return response, nil
}

// NodeStageVolume mounts the volume's file system once on this node, made on the first use.
func (d *driver) NodeStageVolume(_ context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	id, target := request.GetVolumeId(), request.GetStagingTargetPath()
	if id == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and a path are needed")
	}
	if _, err := d.checkCapabilities([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	defer d.store.lock(id)()
	existing, err := d.known(id)
	if err != nil {
		return nil, err
	}
	// Both nodes share a kernel and a folder here: a second mount would be real corruption.
	if d.scope == scopeNetwork && existing.AttachedTo != d.node {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not attached to %s", id, d.node)
	}
	mounted, err := isMounted(target)
	if err != nil || mounted {
		return &csi.NodeStageVolumeResponse{}, err
	}
	options := append([]string{"loop"}, request.GetVolumeCapability().GetMount().GetMountFlags()...)
	if existing.ReadOnly {
		options = append(options, "ro")
	}
	if err := mounter.FormatAndMount(d.store.image(id), target, existing.FileSystem, options); err != nil {
		return nil, status.Errorf(codes.Internal, "volume %s could not be mounted: %v", id, err)
	}
	if err := bypassCache(d.store.image(id)); err != nil {
		// A folder on tmpfs: slower, and no less right.
		log.Printf("volume %s is cached twice: %v", id, err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (d *driver) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	id, target := request.GetVolumeId(), request.GetStagingTargetPath()
	if id == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and a path are needed")
	}
	defer d.store.lock(id)()
	// Not CleanupMountPoint: the kubelet owns the folder.
	if err := unmountAll(target); err != nil {
		return nil, err
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume shows the staged file system to a pod.
func (d *driver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	id, staged, target := request.GetVolumeId(), request.GetStagingTargetPath(), request.GetTargetPath()
	if id == "" || staged == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and two paths are needed")
	}
	if _, err := d.checkCapabilities([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	defer d.store.lock(id)()
	if _, err := d.known(id); err != nil {
		return nil, err
	}
	ready, err := isMounted(staged)
	if err != nil {
		return nil, err
	}
	if !ready {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not staged at %s", id, staged)
	}
	mounted, err := isMounted(target)
	if err != nil || mounted {
		return &csi.NodePublishVolumeResponse{}, err
	}
	if request.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		others, err := mounter.GetMountRefs(staged)
		if err != nil {
			return nil, err
		}
		if len(others) > 0 {
			return nil, status.Errorf(codes.FailedPrecondition, "volume %s has its single writer at %s", id, others[0])
		}
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, err
	}
	options := []string{"bind"}
	if request.GetReadonly() {
		options = append(options, "ro")
	}
	if err := mounter.Mount(staged, target, "", options); err != nil {
		return nil, status.Errorf(codes.Internal, "volume %s could not be shown: %v", id, err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	id, target := request.GetVolumeId(), request.GetTargetPath()
	if id == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and a path are needed")
	}
	defer d.store.lock(id)()
	if err := unmountAll(target); err != nil {
		return nil, err
	}
	// Never more than the empty folder: what is in it would be somebody's data.
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (d *driver) NodeGetVolumeStats(_ context.Context, request *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if request.GetVolumeId() == "" || request.GetVolumePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and a path are needed")
	}
	if _, err := d.known(request.GetVolumeId()); err != nil {
		return nil, err
	}
	if mounted, err := isMounted(request.GetVolumePath()); err != nil || !mounted {
		return nil, status.Errorf(codes.NotFound, "nothing is mounted at %s", request.GetVolumePath())
	}
	var found unix.Statfs_t
	if err := unix.Statfs(request.GetVolumePath(), &found); err != nil {
		return nil, err
	}
	block := found.Bsize
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{
			Unit:      csi.VolumeUsage_BYTES,
			Total:     int64(found.Blocks) * block,
			Available: int64(found.Bavail) * block,
			Used:      int64(found.Blocks-found.Bfree) * block,
		},
		{
			Unit:      csi.VolumeUsage_INODES,
			Total:     int64(found.Files),
			Available: int64(found.Ffree),
			Used:      int64(found.Files - found.Ffree),
		},
	}}, nil
}

func isMounted(path string) (bool, error) {
	mounted, err := mounter.IsMountPoint(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// unmountAll unmounts path, however often something is mounted there.
func unmountAll(path string) error {
	for {
		mounted, err := isMounted(path)
		if err != nil || !mounted {
			return err
		}
		if err := mounter.Unmount(path); err != nil {
			return err
		}
	}
}

// bypassCache lets the device of an image write to the image's disk, as a disk of its own would, and
// not to the node's memory: that would cost every byte another copy, and what is read back from the
// device would never have left the memory.
func bypassCache(image string) error {
	out, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", image).Output()
	if err != nil {
		return err
	}
	for _, device := range strings.Fields(string(out)) {
		if said, err := exec.Command("losetup", "--direct-io=on", device).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said)))
		}
	}
	return nil
}

// isStaged says whether an image backs a loop device, that is, whether it is mounted.
func isStaged(image string) bool {
	out, err := exec.Command("losetup", "--associated", image).Output()
	return err == nil && strings.TrimSpace(string(out)) != ""
}
