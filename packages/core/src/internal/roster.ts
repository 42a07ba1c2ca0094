/**
 * Those who are there, of many who come and go.
 *
 * @since 0.1.0
 */

/** Where somebody is. */
export class Place {
  index: number

  constructor(index: number) {
    this.index = index
  }
}

/**
 * What a `Set` would do, but that its members are found by their places.
 *
 * When a `Set` or `Map` grows, shrinks, or has been changed often enough, V8 makes another table and links the old one to it.
 * From the first full collection on, every table is kept by the one before, with all that was in it, until the next: where
 * connections come and go, that is every connection there ever was.
 */
export class Roster<A> {
  private readonly members: Array<A> = []
  private readonly places: Array<Place> = []

  get size(): number {
    return this.members.length
  }

  add(member: A): Place {
    const place = new Place(this.members.length)
    this.members.push(member)
    this.places.push(place)
    return place
  }

  /** Does nothing if whoever had the place has left already. */
  remove(place: Place): void {
    const { index } = place
    if (index < 0) return
    place.index = -1
    const member = this.members.pop()!
    const last = this.places.pop()!
    if (last === place) return
    // The last takes its place.
    last.index = index
    this.members[index] = member
    this.places[index] = last
  }

  /** Visits all but those who leave meanwhile; if some do, others may be visited twice. */
  forEach(visit: (member: A, place: Place) => void): void {
    for (let i = this.members.length - 1; i >= 0; i--) {
      if (i < this.members.length) visit(this.members[i]!, this.places[i]!)
    }
  }

  toArray(): ReadonlyArray<A> {
    return this.members.slice()
  }
}
