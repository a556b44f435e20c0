// Command csidriver is a CSI driver whose volumes are files with file systems of their own, so
// that sizes, full disks and formats are real. One program plays two providers:
//
//   - scope "network": any node can use a volume, after it was attached there and nowhere else;
//   - scope "node": a volume lies on one node and needs no attachment.
package main

import (
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	var driver driver
	var endpoint, registration, volumes string
	flag.StringVar(&driver.name, "name", "", "the driver's name, as in StorageClass.provisioner")
	flag.StringVar(&driver.node, "node", "", "the node it runs on; none for a controller alone")
	flag.StringVar(&driver.fileSystem, "file-system", "ext4", "ext4 or xfs, unless a class asks for the other")
	flag.StringVar((*string)(&driver.scope), "scope", string(scopeNode), "network or node")
	flag.StringVar(&driver.delays, "delays", "", "folder whose files attach and detach hold how long these take, such as 1.5s; read anew by every call")
	flag.StringVar(&endpoint, "endpoint", "", "socket to serve on")
	flag.StringVar(&registration, "registration", "", "socket to register with the kubelet on")
	flag.StringVar(&volumes, "volumes", "", "folder of the volumes")
	flag.Parse()

	if err := run(&driver, endpoint, registration, volumes); err != nil {
		log.Fatal(err)
	}
}

// driver is one instance: what it is called and where it runs.
type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer

	name       string
	node       string
	fileSystem string
	scope      scope
	delays     string
	store      *store
}

// scope says which nodes can use a volume.
type scope string

const (
	scopeNetwork scope = "network"
	scopeNode    scope = "node"
)

func run(driver *driver, endpoint, registration, volumes string) error {
	if driver.name == "" || endpoint == "" || volumes == "" {
		return errors.New("--name, --endpoint and --volumes are needed")
	}
	if driver.scope != scopeNetwork && driver.scope != scopeNode {
		return errors.New("--scope is either network or node")
	}
	store, err := openStore(volumes)
	if err != nil {
		return err
	}
	driver.store = store

	server := grpc.NewServer(grpc.UnaryInterceptor(logCalls))
	csi.RegisterIdentityServer(server, driver)
	// A network driver's controller runs apart from its nodes; a node driver is both.
	if driver.scope == scopeNode || driver.node == "" {
		csi.RegisterControllerServer(server, driver)
	}
	if driver.node != "" {
		csi.RegisterNodeServer(server, driver)
	}
	listener, err := listen(endpoint)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	if registration != "" {
		go func() { ended <- serveRegistration(registration, driver.name, endpoint) }()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-ended:
		return err
	case <-stop:
		server.GracefulStop()
		return nil
	}
}

// listen serves on a socket, also when one of a killed driver is still there.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}
