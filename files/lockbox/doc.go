// Package lockbox reads and writes files as the Ruby gem Lockbox (2.x) stores
// them: Active Storage's encrypts_attached, CarrierWave and Shrine. An object is
// one box of package [github.com/kmsencrypted/kmsencrypted/lockbox] and nothing
// else, without a header and without chunks:
//
//	nonce 12 || ciphertext || tag 16   (aes-gcm, the default)
//
// Under aes-gcm a [Codec] works in constant memory although the tag stands at the
// end. Writing, it encrypts as it goes. Reading, it goes over the ciphertext
// twice: first it checks the tag, then it decrypts. A source that can seek is read
// twice; of any other the ciphertext goes to a temporary file. No byte is given
// out that is not authentic, and no plaintext touches the disk. The other
// algorithms need the whole file in memory; [Options.MaxInMemory] bounds it.
//
// The key is the one that Ruby uses: of the attribute
// ([lockbox.MasterKey.AttributeKey] with the name of the attachment), or the data
// key of the record ([kmsencrypted.DataKey.Raw]), or the raw key of a file whose
// record was rotated ([files.Key.Raw]).
//
// For new files package [github.com/kmsencrypted/kmsencrypted/files] is the better
// format: it is read in parts, has no two passes, and names its key.
package lockbox
