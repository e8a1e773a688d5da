// Package deploy holds no code: its tests check the Dockerfile and the
// docker-compose.yml in the root of the tree, without Docker.
package deploy
