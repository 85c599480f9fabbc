// Package attach attaches encrypted files to the records of a
// [github.com/kmsencrypted/kmsencrypted/field.Model].
package attach
