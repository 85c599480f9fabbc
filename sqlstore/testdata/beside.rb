# Writes members like a Rails application, beside a test of package sqlstore, which is ready
# when the file KEYED is there and stops it by the file STOP. Prints what it wrote last.
# Usage: ruby beside.rb DATABASE_URL KEYED SEEN STOP
require "stringio"
require "active_record"
require "lockbox"
require "attr_encrypted"

url, keyed, seen, stop = ARGV
ActiveRecord::Base.establish_connection(url.start_with?("postgres") ? url : {adapter: "sqlite3", database: url, timeout: 20_000})

class Member < ActiveRecord::Base
  PREFIX = "insecure+data+A".unpack1("m")

  # What has_kms_key defines, under insecure-test-key: the first key is made when the first
  # value is encrypted, and saved without comparing. New keys are at the version given.
  def self.kms_key(name, column, version)
    define_method(name) do
      keys = (@kms_keys ||= {})
      keys[name] ||=
        if self[column]
          raise "version of #{self[column][0, 3]}" unless self[column].start_with?("v1:", "v2:")
          self[column][3..].unpack1("m0").split(":", 3)[1].unpack1("m0")
        else
          key = SecureRandom.random_bytes(32)
          context = [{model_id: id.to_s, model_name: "Member"}.to_json].pack("m")
          self[column] = "v#{version}:" + [[PREFIX, [key].pack("m0"), context].join(":")].pack("m0")
          key
        end
    end
  end
  kms_key :kms_key, "encrypted_kms_key", 1
  kms_key :kms_key_phone, "encrypted_kms_key_phone", 2

  singleton_class.alias_method :has_encrypted, :lockbox_encrypts unless respond_to?(:has_encrypted) # before Lockbox 1.0
  has_encrypted :email, key: :kms_key
  has_encrypted :phone, key: :kms_key_phone
  attr_encrypted :ssn, key: :kms_key
end

wrote = Hash.new { |h, id| h[id] = {} }
random = Random.new(7)
ids = Member.order(:id).pluck(:id)
id, operations = 1000, 0
until File.exist?(stop)
  File.write(seen, "") if File.exist?(keyed) && !File.exist?(seen)
  values = %w[email phone ssn].sample(1 + random.rand(2), random: random).to_h { |name| [name, random.rand(4) == 0 ? "" : "#{name} #{operations}"] }
  if random.rand(10) == 0 && ids.size < 300 # or a slow reader would never reach the end
    values = values.transform_values { "" } if random.rand(2) == 0
    Member.new(id: id += 1).tap { |m| m.assign_attributes(values) }.save!
    ids << (at = id)
  else
    member = Member.find(at = ids.sample(random: random))
    sleep 0.005
    values.each { |name, value| member.public_send("#{name}=", value) }
    member.save!
  end
  wrote[at].merge!(values)
  operations += 1
end
puts JSON.generate(operations: operations, created: id - 1000, wrote: wrote)
