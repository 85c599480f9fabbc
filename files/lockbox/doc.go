// Package lockbox reads and writes files as the Ruby gem Lockbox (2.x) stores
// them: Active Storage's encrypts_attached, CarrierWave and Shrine. An object is
// one box of package [github.com/kmsencrypted/kmsencrypted/lockbox] and nothing
// else, without a header and without chunks:
//
//	nonce 12 || ciphertext || tag 16   (aes-gcm, the default)
//
// Under aes-gcm a [Codec] works in constant memory although the tag comes last.
// Writing encrypts in one pass. Reading makes two passes over the ciphertext: the
// first checks the tag, the second decrypts. A source that can seek is read twice;
// the ciphertext of any other goes to a temporary file. No unauthenticated byte is
// returned, and no plaintext is written to disk. The other algorithms need the
// whole file in memory; [Options.MaxInMemory] limits it.
//
// The key is the one that Ruby uses: the key of the attribute
// ([lockbox.MasterKey.AttributeKey] with the name of the attachment), the data key
// of the record ([kmsencrypted.DataKey.Raw]), or the raw key of a file whose record
// was rotated ([files.Key.Raw]).
//
// For new files package [github.com/kmsencrypted/kmsencrypted/files] has the better
// format: it can be read in parts, needs one pass, and identifies its key.
package lockbox
