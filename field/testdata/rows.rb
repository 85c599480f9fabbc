# Reads the table that a test of package field wrote, prints every value, and
# writes every value again. Usage: ruby rows.rb DATABASE LOCKBOX_MASTER_KEY
require "active_record"
require "lockbox"
require "attr_encrypted"
require "rbnacl"

Lockbox.master_key = ARGV.fetch(1)
ActiveRecord::Base.establish_connection(adapter: "sqlite3", database: ARGV.fetch(0))
ActiveRecord.use_yaml_unsafe_load = false if ActiveRecord.respond_to?(:use_yaml_unsafe_load=)

class Sample < ActiveRecord::Base
  # What has_kms_key makes of a column under insecure-test-key. Only strict
  # base64 and the very bytes of the context will do.
  def kms_key
    @kms_key ||= begin
      _, data, context = encrypted_kms_key.delete_prefix("v1:").unpack1("m0").split(":", 3)
      wanted = {model_id: id.to_s, model_name: "Sample"}.to_json
      raise "context #{context.inspect}" unless context == [wanted].pack("m")
      data.unpack1("m0")
    end
  end

  singleton_class.alias_method :has_encrypted, :lockbox_encrypts unless respond_to?(:has_encrypted) # before Lockbox 1.0

  has_encrypted :plain, :empty, :decimal, key: :kms_key
  has_encrypted :text, type: :string, key: :kms_key
  has_encrypted :flag, type: :boolean, key: :kms_key
  has_encrypted :day, type: :date, key: :kms_key
  has_encrypted :moment, type: :datetime, key: :kms_key
  has_encrypted :clock, type: :time, key: :kms_key
  has_encrypted :number, type: :integer, key: :kms_key
  has_encrypted :ratio, type: :float, key: :kms_key
  has_encrypted :json, type: :json, key: :kms_key
  has_encrypted :settings, type: :hash, key: :kms_key
  has_encrypted :tags, type: :array, key: :kms_key
  has_encrypted :photo, type: :binary, key: :kms_key, encode: false
  has_encrypted :padded, padding: true, key: :kms_key
  has_encrypted :chacha, algorithm: "xchacha20", key: :kms_key
  has_encrypted :salsa, algorithm: "xsalsa20", key: :kms_key
  attr_encrypted :ssn, key: :kms_key
  attr_encrypted :pin, key: :kms_key, mode: :per_attribute_iv_and_salt
  attr_encrypted :old, key: :kms_key, mode: :single_iv_and_salt, algorithm: "aes-256-cbc", insecure_mode: true
  attr_encrypted :cbc, key: :kms_key, algorithm: "aes-256-cbc"
  attr_encrypted :prefs, key: :kms_key, marshal: true

  LOCKBOX = %i[plain empty decimal text flag day moment clock number ratio json settings tags photo padded chacha salsa note]
  ATTR_ENCRYPTED = %i[ssn pin old cbc prefs]

  # A model of Lockbox before 1.0 takes no associated data; its boxes do.
  def note = note_ciphertext && note_box.decrypt(note_ciphertext, associated_data: name).force_encoding("UTF-8")
  def note=(text)
    self.note_ciphertext = text && note_box.encrypt(text, associated_data: name)
  end
  def note_box = Lockbox.new(key: Lockbox.attribute_key(table: "samples", attribute: "note_ciphertext"), encode: true)

  # Each text column is in the encoding that its gem writes.
  def check_encodings
    (LOCKBOX - [:photo]).each { |name| strict(self["#{name}_ciphertext"], "m0") }
    ATTR_ENCRYPTED.each do |name|
      ["", "_iv", "_salt"].each { |part| strict(self["encrypted_#{name}#{part}"]&.delete_prefix("_"), "m") if has_attribute?("encrypted_#{name}#{part}") }
    end
  end

  def strict(column, encoding)
    raise "column #{column.inspect}" unless column.nil? || [column.unpack1(encoding)].pack(encoding) == column
  end
end

def shown(value)
  case value
  when Time, ActiveSupport::TimeWithZone then value.utc.strftime("%Y-%m-%d %H:%M:%S.%6N")
  when Date then value.strftime("%Y-%m-%d")
  when Float then [value].pack("G").unpack1("H*")
  when String then value.encoding == Encoding::BINARY ? "binary #{value.unpack1("H*")}" : value.inspect
  else value.inspect
  end
end

Sample.order(:id).each do |row|
  row.check_encodings
  values = (Sample::LOCKBOX + Sample::ATTR_ENCRYPTED).to_h { |name| [name, row.public_send(name)] }
  puts JSON.generate(values.transform_values { |v| shown(v) })
  values.each { |name, value| row.public_send("#{name}=", nil); row.public_send("#{name}=", value) }
  row.save!
end
