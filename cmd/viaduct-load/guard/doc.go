// Package guard has a test alone: a message may not come to cost more
// instructions than it did, without somebody having said so.
package guard
