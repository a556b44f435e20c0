package main

import (
	"context"
	"errors"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	mebibyte     = 1 << 20
	defaultBytes = 1 << 30
	// Images are sparse; more than this on a test's disk is a mistake.
	limitBytes = 1 << 40
	// mkfs.xfs refuses less than the first, mkfs.ext4 makes no journal on less than the second.
	minimumXFS  = 300 * mebibyte
	minimumExt4 = 8 * mebibyte
)

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	kinds := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	if d.scope == scopeNetwork {
		kinds = append(kinds,
			csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			csi.ControllerServiceCapability_RPC_PUBLISH_READONLY,
			csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES)
	}
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, kind := range kinds {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}},
		})
	}
	return response, nil
}

func (d *driver) CreateVolume(_ context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if request.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume needs a name")
	}
	if request.GetVolumeContentSource() != nil {
		return nil, status.Error(codes.InvalidArgument, "this driver makes neither snapshots nor clones")
	}
	fileSystem, err := d.checkCapabilities(request.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	bytes, err := size(request.GetCapacityRange(), fileSystem)
	if err != nil {
		return nil, err
	}
	wanted := &volume{ID: idOf(request.GetName()), Name: request.GetName(), Bytes: bytes, FileSystem: fileSystem}
	defer d.store.lock(wanted.ID)()
	existing, err := d.store.load(wanted.ID)
	switch {
	case err == nil:
		required, limit := request.GetCapacityRange().GetRequiredBytes(), request.GetCapacityRange().GetLimitBytes()
		if existing.Bytes < required || limit > 0 && existing.Bytes > limit || existing.FileSystem != fileSystem {
			return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with %d bytes of %s", existing.ID, existing.Bytes, existing.FileSystem)
		}
		wanted = existing
	case errors.Is(err, errUnknown):
		if err := d.store.create(wanted); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: d.describe(wanted)}, nil
}

// size is the size of a volume that fits what is asked for and what the file system needs.
func size(asked *csi.CapacityRange, fileSystem string) (int64, error) {
	required, limit := asked.GetRequiredBytes(), asked.GetLimitBytes()
	bytes := required
	if bytes == 0 {
		bytes = defaultBytes
		if limit > 0 {
			bytes = min(bytes, limit)
		}
	}
	least := int64(minimumExt4)
	if fileSystem == "xfs" {
		least = minimumXFS
	}
	// Whole mebibytes: a file system ends at a block.
	bytes = (max(bytes, least) + mebibyte - 1) / mebibyte * mebibyte
	if required < 0 || limit < 0 || bytes > limitBytes || limit > 0 && bytes > limit {
		return 0, status.Errorf(codes.OutOfRange, "a volume of %s between %d and %d bytes cannot be made", fileSystem, required, limit)
	}
	return bytes, nil
}

// checkCapabilities gives the file system that all of the capabilities can be met with.
func (d *driver) checkCapabilities(capabilities []*csi.VolumeCapability) (string, error) {
	if len(capabilities) == 0 {
		return "", status.Error(codes.InvalidArgument, "capabilities are needed")
	}
	fileSystem := d.fileSystem
	for _, capability := range capabilities {
		if capability.GetMount() == nil {
			return "", status.Error(codes.InvalidArgument, "this driver offers mounted file systems only, no raw blocks")
		}
		switch mode := capability.GetAccessMode().GetMode(); mode {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		default:
			return "", status.Errorf(codes.InvalidArgument, "access mode %s needs more than one node", mode)
		}
		switch asked := capability.GetMount().GetFsType(); asked {
		case "":
		case "ext4", "xfs":
			fileSystem = asked
		default:
			return "", status.Errorf(codes.InvalidArgument, "this driver makes ext4 and xfs, not %q", asked)
		}
	}
	return fileSystem, nil
}

func (d *driver) describe(v *volume) *csi.Volume {
	described := &csi.Volume{VolumeId: v.ID, CapacityBytes: v.Bytes, VolumeContext: map[string]string{"fileSystem": v.FileSystem}}
	if d.scope == scopeNode {
		described.AccessibleTopology = []*csi.Topology{d.topology()}
	}
	return described
}

// topology names the node, in a key of the driver's own.
func (d *driver) topology() *csi.Topology {
	return &csi.Topology{Segments: map[string]string{"topology." + d.name + "/node": d.node}}
}

func (d *driver) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	id := request.GetVolumeId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume?")
	}
	defer d.store.lock(id)()
	existing, err := d.store.load(id)
	if errors.Is(err, errUnknown) {
		return &csi.DeleteVolumeResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if existing.AttachedTo != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached to %s", id, existing.AttachedTo)
	}
	if d.scope == scopeNode && isStaged(d.store.image(id)) {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is mounted on %s", id, d.node)
	}
	if err := d.store.remove(id); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if request.GetVolumeId() == "" || len(request.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a volume and capabilities are needed")
	}
	existing, err := d.known(request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	fileSystem, err := d.checkCapabilities(request.GetVolumeCapabilities())
	if err != nil || fileSystem != existing.FileSystem {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "the volume cannot be used so"}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: request.GetVolumeCapabilities()},
	}, nil
}

func (d *driver) ListVolumes(_ context.Context, request *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	ids, err := d.store.list()
	if err != nil {
		return nil, err
	}
	first := 0
	if token := request.GetStartingToken(); token != "" {
		// The token is the last id of the page before, so that a deletion between loses nothing.
		if !plainName.MatchString(token) || len(ids) == 0 || token < ids[0] {
			return nil, status.Errorf(codes.Aborted, "no page begins after %q", token)
		}
		at, found := slices.BinarySearch(ids, token)
		first = at
		if found {
			first++
		}
	}
	ids = ids[first:]
	response := &csi.ListVolumesResponse{}
	if most := int(request.GetMaxEntries()); most > 0 && most < len(ids) {
		ids = ids[:most]
		response.NextToken = ids[most-1]
	}
	for _, id := range ids {
		existing, err := d.store.load(id)
		if errors.Is(err, errUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entry := &csi.ListVolumesResponse_Entry{Volume: d.describe(existing), Status: &csi.ListVolumesResponse_VolumeStatus{}}
		if existing.AttachedTo != "" {
			entry.Status.PublishedNodeIds = []string{existing.AttachedTo}
		}
		response.Entries = append(response.Entries, entry)
	}
	return response, nil
}

// known loads a volume for a call that cannot go on without it.
func (d *driver) known(id string) (*volume, error) {
	existing, err := d.store.load(id)
	if errors.Is(err, errUnknown) {
		return nil, status.Errorf(codes.NotFound, "there is no volume %s", id)
	}
	return existing, err
}
