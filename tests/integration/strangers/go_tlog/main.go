// A stranger who reads our log with Go's own transparency-log packages and none of our code.
//
// Standard input is JSON: verifier key, an older and a newer checkpoint (signed notes), one leaf with its index and
// inclusion proof in the newer tree, the consistency proof between both, and one full tile with the leaves under it.
// Hashes are hexadecimal. Exit 0 when all of it holds.
package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type evidence struct {
	Vkey        string
	Older       string
	Newer       string
	Leaf        string
	Index       int64
	Inclusion   []string
	Consistency []string
	Tile        string
	TileLeaves  []string `json:"tile_leaves"`
}

func main() {
	var given evidence
	must(json.NewDecoder(os.Stdin).Decode(&given))
	verifier, err := note.NewVerifier(given.Vkey)
	must(err)
	oldSize, oldRoot := open(given.Older, verifier)
	newSize, newRoot := open(given.Newer, verifier)

	leaf := tlog.RecordHash([]byte(given.Leaf))
	must(tlog.CheckRecord(tlog.RecordProof(hashes(given.Inclusion)), newSize, newRoot, given.Index, leaf))
	must(tlog.CheckTree(tlog.TreeProof(hashes(given.Consistency)), newSize, newRoot, oldSize, oldRoot))
	checkTile(given)
	fmt.Printf("leaf %d is in the tree of %d, which grew from %d\n", given.Index, newSize, oldSize)
}

// open verifies a checkpoint's signature and reads its size and root.
func open(text string, verifier note.Verifier) (int64, tlog.Hash) {
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		must(fmt.Errorf("not a checkpoint of %s: %q", verifier.Name(), opened.Text))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	return size, hash(root)
}

// checkTile compares a tile as we store it with what its leaves hash to.
func checkTile(given evidence) {
	data, err := hex.DecodeString(given.Tile)
	must(err)
	for i, leaf := range given.TileLeaves {
		stored, err := tlog.HashFromTile(tlog.Tile{H: 8, L: 0, N: 0, W: 256}, data, tlog.StoredHashIndex(0, int64(i)))
		must(err)
		if stored != tlog.RecordHash([]byte(leaf)) {
			must(fmt.Errorf("the tile has another hash for leaf %d", i))
		}
	}
}

func hashes(texts []string) []tlog.Hash {
	var found []tlog.Hash
	for _, text := range texts {
		raw, err := hex.DecodeString(text)
		must(err)
		found = append(found, hash(raw))
	}
	return found
}

func hash(raw []byte) tlog.Hash {
	if len(raw) != tlog.HashSize {
		must(fmt.Errorf("a hash of %d bytes", len(raw)))
	}
	return tlog.Hash(raw)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
