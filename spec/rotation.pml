/* A model of a rotation, for spin: two records in one shard, two workers that may
 * stop anywhere, a writer, and an operator who verifies, clears the journal and
 * retires version 1. An atomic block is a transaction of the database.
 *
 * Checked by .ci/run spin, which also takes each check away and wants an error then.
 *
 * REKEY    beside a writer that compares the key column, as this library does
 * REWRAP   beside a writer that compares nothing, as Rails; the key service may
 *          answer garbage
 * REKEYER  with REWRAP: the writer compares, and gives a record a new data key, at the
 *          new version
 * FAILOVER with REKEY or REWRAP: once, the database goes back to an earlier state, of records and
 *          ledger alike, and a worker goes on from where it was; with one worker, and a
 *          key service that answers right, which leaves few enough states
 *
 * NO_KEY, NO_COLUMN   a swap does not compare the key or the column
 * NO_WRITER           the writer does not compare
 * NO_LEASE            a batch is written without the lease
 * NO_POSITION         a batch is written wherever the ledger says that the shard is; this
 *                     fences off like the lease, so for that both are taken away
 * NO_TOKEN            a worker keeps its name when it takes the shard again
 * NO_LEFT             a run ends after a pass that changed nothing, without a look at what is
 *                     left; as this finds what the checks of lease,
 *                     position and token leave out, those are taken away with it
 * NO_JOURNAL          replaced keys are not kept
 * NO_CLEAN            the journal is cleared without a clean verification
 * NO_VERIFY, NO_COUNT a version is retired without one, or without a count; while the
 *                     journal is cleared after a verification only, that of the
 *                     retirement finds nothing more, so both are taken away
 */

#define RECORDS 2
#define NOBODY 0
#define GONE 9

byte version[RECORDS];   /* of the key column */
byte key[RECORDS];       /* the data key in it */
byte under[RECORDS];     /* the data key that the column is sealed under */
byte value[RECORDS];     /* what is sealed */
byte written[RECORDS];   /* what the writer was told to be written last */
bool journal[RECORDS];   /* has the wrapped key at version 1 */
bool broken[RECORDS];    /* the wrapped key is garbage */
byte fresh = RECORDS;    /* the next new data key */

byte cursor, owner;      /* of the shard */
bool shardDone, conflict, changed, runDone, verified, retired, late;
#ifdef FAILOVER
bool taken;              /* the shard, since the state that comes back */
#define TAKE taken = true
#else
#define TAKE skip
#endif

inline readable() {
	/* Nothing is lost: what was written last is there, and opens. */
	assert(under[0] == key[0] && under[1] == key[1]);
	assert(value[0] == written[0] && value[1] == written[1]);
	assert((!broken[0] || journal[0]) && (!broken[1] || journal[1]));
	assert(!retired || (!broken[0] && !broken[1]));
	assert(!retired || (version[0] == 2 && version[1] == 2 && !journal[0] && !journal[1]));
}

proctype Worker(byte me) {
	byte from, at, oldVersion, oldKey, oldUnder, oldValue;
	bool nothing, lost;
	do
	:: atomic { !runDone && owner == NOBODY && !shardDone -> owner = me; from = cursor; lost = false; TAKE }
		do
		:: atomic { /* reads the next record that is not done yet */
			at = from;
			do
			:: at < RECORDS && version[at] == 2 -> at++
			:: else -> break
			od;
			nothing = (at == RECORDS);
			if
			:: nothing
			:: else -> oldVersion = version[at]; oldKey = key[at]; oldUnder = under[at]; oldValue = value[at]
			fi
		   }
		   if
		   :: break /* it stands still, or dies; its lease ends */
		   :: atomic { true -> /* writes it, together with the position */
			if
#ifndef NO_LEASE
			:: owner != me || runDone -> lost = true
#endif
#ifndef NO_POSITION
			:: from != cursor -> lost = true
#endif
			:: else ->
				if
				:: nothing -> shardDone = true; owner = NOBODY
				:: else ->
					if
#ifndef NO_KEY
					:: key[at] != oldKey || version[at] != oldVersion -> conflict = true
#endif
#if !defined(REWRAP) && !defined(NO_COLUMN)
					:: under[at] != oldUnder || value[at] != oldValue -> conflict = true
#endif
					:: else ->
						version[at] = 2; changed = true;
#ifndef NO_JOURNAL
						journal[at] = true;
#endif
#ifdef REWRAP
						key[at] = oldKey;
#ifndef FAILOVER
						if
						:: skip
						:: broken[at] = true
						fi
#endif
#else
						key[at] = fresh; under[at] = fresh; value[at] = oldValue;
						fresh++
#endif
					fi;
					cursor = at + 1; from = cursor
				fi
			fi;
			verified = false;
			readable()
		     }
		     if
		     :: shardDone || lost -> break
		     :: else
		     fi
		fi
		od
	:: atomic { !runDone && shardDone -> /* the pass ends */
		if
		:: conflict || changed -> shardDone = false; conflict = false; changed = false; cursor = 0
#ifndef NO_LEFT
		:: !conflict && !changed && (version[0] != 2 || version[1] != 2) -> shardDone = false; cursor = 0
#endif
		:: else -> runDone = true; assert(version[0] == 2 && version[1] == 2)
		fi
	   }
	:: runDone -> break
	od
}

/* Leases end at any time. */
active proctype Clock() {
	do
	:: atomic { owner != NOBODY -> owner = NOBODY }
	:: runDone -> break
	od
}

/* It changes a record as it was loaded, and tries again after a conflict. */
proctype Writer() {
	byte i, loaded, n;
	for (n : 1 .. 2) {
		select(i : 0 .. 1);
		again:
		loaded = key[i];
		atomic {
			if
#if (defined(REKEY) || defined(REKEYER)) && !defined(NO_WRITER)
			:: key[i] != loaded -> goto again
#endif
#ifdef REKEYER
			:: key[i] == loaded && !broken[i] -> key[i] = fresh; under[i] = fresh; fresh++; value[i] = n; written[i] = n; version[i] = 2
#else
			:: else -> under[i] = loaded; value[i] = n; written[i] = n
#endif
			fi;
			readable()
		}
	}
}

active proctype Operator() {
	do
	:: atomic { runDone && under[0] == key[0] && under[1] == key[1] && !broken[0] && !broken[1] -> verified = true }
	:: atomic { broken[0] && journal[0] -> broken[0] = false } /* heal */
	:: atomic { broken[1] && journal[1] -> broken[1] = false }
	:: atomic {
#ifndef NO_CLEAN
		verified &&
#endif
		runDone -> journal[0] = false; journal[1] = false; readable()
	   }
	:: atomic { runDone && !late -> version[0] = 1; late = true } /* a process of an older deployment */
	:: atomic {
#ifndef NO_COUNT
		version[0] == 2 && version[1] == 2 &&
#endif
#ifndef NO_VERIFY
		verified &&
#endif
		runDone && !journal[0] && !journal[1] -> retired = true; readable(); break
	   }
	od
}

#ifdef FAILOVER
/* What was acknowledged since may be lost. A version that was retired before is not
 * restored. */
proctype Replica() {
	byte oldVersion[RECORDS], oldKey[RECORDS], oldUnder[RECORDS], oldValue[RECORDS], oldWritten[RECORDS];
	bool oldJournal[RECORDS], oldBroken[RECORDS];
	byte oldCursor, oldOwner;
	bool oldShardDone, oldConflict, oldChanged, oldVerified;
	byte i;
	d_step {
		!runDone;
		for (i : 0 .. RECORDS - 1) {
			oldVersion[i] = version[i]; oldKey[i] = key[i]; oldUnder[i] = under[i]; oldValue[i] = value[i];
			oldWritten[i] = written[i]; oldJournal[i] = journal[i]; oldBroken[i] = broken[i]
		}
		oldCursor = cursor; oldOwner = owner; oldShardDone = shardDone; oldConflict = conflict;
		oldChanged = changed; oldVerified = verified; taken = false
	}
	d_step {
		!runDone;
		for (i : 0 .. RECORDS - 1) {
			version[i] = oldVersion[i]; key[i] = oldKey[i]; under[i] = oldUnder[i]; value[i] = oldValue[i];
			written[i] = oldWritten[i]; journal[i] = oldJournal[i]; broken[i] = oldBroken[i]
		}
		cursor = oldCursor; shardDone = oldShardDone; conflict = oldConflict;
		changed = oldChanged; verified = oldVerified;
		if
#ifndef NO_TOKEN
		:: taken && oldOwner != NOBODY -> owner = GONE /* a name that nobody has any more */
#endif
		:: else -> owner = oldOwner
		fi
	}
}
#endif

init {
	atomic {
		version[0] = 1; version[1] = 1; key[1] = 1; under[1] = 1;
		run Worker(1); run Writer();
#ifdef FAILOVER
		run Replica()
#else
		run Worker(2)
#endif
	}
}
