package main

import (
	"context"
	"errors"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ControllerPublishVolume attaches a network volume to one node, and to no second one.
func (d *driver) ControllerPublishVolume(ctx context.Context, request *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if d.scope != scopeNetwork {
		return nil, status.Error(codes.Unimplemented, "these volumes need no attachment")
	}
	id, node := request.GetVolumeId(), request.GetNodeId()
	if id == "" || node == "" || request.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "a volume, a node and a capability are needed")
	}
	if _, err := d.checkCapabilities([]*csi.VolumeCapability{request.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	defer d.store.lock(id)()
	existing, err := d.known(id)
	if err != nil {
		return nil, err
	}
	if !d.knowsNode(node) {
		return nil, status.Errorf(codes.NotFound, "there is no node %s", node)
	}
	switch existing.AttachedTo {
	case node:
		if existing.ReadOnly != request.GetReadonly() {
			return nil, status.Errorf(codes.AlreadyExists, "volume %s is attached to %s in the other mode", id, node)
		}
		return &csi.ControllerPublishVolumeResponse{}, nil
	case "":
	default:
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached to %s", id, existing.AttachedTo)
	}
	if err := d.delay(ctx, "attach"); err != nil {
		return nil, err
	}
	existing.AttachedTo, existing.ReadOnly = node, request.GetReadonly()
	if err := d.store.save(existing); err != nil {
		return nil, err
	}
	return &csi.ControllerPublishVolumeResponse{}, nil
}

// ControllerUnpublishVolume detaches a volume. As with a real provider, that does not ask
// whether the node is done with it.
func (d *driver) ControllerUnpublishVolume(ctx context.Context, request *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if d.scope != scopeNetwork {
		return nil, status.Error(codes.Unimplemented, "these volumes need no attachment")
	}
	id, node := request.GetVolumeId(), request.GetNodeId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume?")
	}
	defer d.store.lock(id)()
	existing, err := d.store.load(id)
	if errors.Is(err, errUnknown) {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if existing.AttachedTo == "" || node != "" && existing.AttachedTo != node {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	}
	if err := d.delay(ctx, "detach"); err != nil {
		return nil, err
	}
	existing.AttachedTo, existing.ReadOnly = "", false
	if err := d.store.save(existing); err != nil {
		return nil, err
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// announceNode tells the controller, which shares the folder, that there is such a node.
func (d *driver) announceNode() error {
	if d.scope != scopeNetwork || d.node == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(d.store.folder, d.node+".node"), nil, 0o600)
}

func (d *driver) knowsNode(node string) bool {
	if !plainName.MatchString(node) {
		return false
	}
	_, err := os.Stat(filepath.Join(d.store.folder, node+".node"))
	return err == nil
}

// delay takes as long as the file called what says, unless the caller gives up before.
func (d *driver) delay(ctx context.Context, what string) error {
	if d.delays == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(d.delays, what))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		log.Printf("the delay of %s is no duration and does not count: %v", what, err)
		return nil
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
