module ganglion.dev/hack/kind/pause

go 1.24.0
