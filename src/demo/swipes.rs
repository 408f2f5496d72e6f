//! Made-up people who come and go. Knows no server.

use std::time::Duration;

use fastrand::Rng;

const DOORS: u32 = 4;
const PEOPLE: usize = 60;

/// One card held to one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Swipe {
    /// How long after the one before.
    pub(super) wait: Duration,
    pub(super) door: u32,
    /// Sixteen hexadecimal digits.
    pub(super) card: String,
    pub(super) opened: bool,
}

/// Doors and the people who work behind them.
#[derive(Debug)]
pub(super) struct Building {
    rng: Rng,
    cards: Vec<String>,
}

impl Building {
    pub(super) fn new(mut rng: Rng) -> Self {
        let cards = (0..PEOPLE).map(|_| card(&mut rng)).collect();
        Self { rng, cards }
    }

    /// The cards of those who work here.
    pub(super) fn cards(&self) -> &[String] {
        &self.cards
    }

    /// The next few people, who come together as people do: a pause, then one after the other
    /// through the same door. Over many calls there are `rate` swipes a minute.
    pub(super) fn arrivals(&mut self, rate: u32) -> Vec<Swipe> {
        let apart = Duration::from_secs(60) / rate.max(1);
        let door = self.rng.u32(1..=DOORS);
        let mut swipes: Vec<Swipe> = Vec::new();
        for _ in 0..self.rng.u32(1..=4) {
            let wait = apart.mul_f64(0.1 + 0.3 * self.rng.f64());
            let known = self.rng.choice(&self.cards).filter(|_| self.rng.u8(..) >= 10).cloned();
            let swipe = match known {
                Some(card) => Swipe { wait, door, card, opened: self.rng.u8(..) >= 12 },
                // A visitor's card, which opens nothing.
                None => Swipe { wait, door, card: card(&mut self.rng), opened: false },
            };
            let again = !swipe.opened && self.rng.bool();
            swipes.push(swipe.clone());
            if again {
                swipes.push(swipe);
            }
        }
        // What the group gained on the average it gives back in the pause before it.
        let together: Duration = swipes.iter().skip(1).map(|swipe| swipe.wait).sum();
        let share = apart * u32::try_from(swipes.len()).unwrap_or(u32::MAX);
        if let Some(first) = swipes.first_mut() {
            first.wait = share.saturating_sub(together).mul_f64(0.5 + self.rng.f64());
        }
        swipes
    }
}

fn card(rng: &mut Rng) -> String {
    format!("{:016X}", rng.u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_come_in_groups_at_the_rate_asked_for() {
        let mut building = Building::new(Rng::with_seed(1));
        let swipes: Vec<_> = (0..2000).flat_map(|_| building.arrivals(30)).collect();
        let total: Duration = swipes.iter().map(|swipe| swipe.wait).sum();
        let per_minute = swipes.len() as f64 * 60.0 / total.as_secs_f64();
        assert!((28.0..32.0).contains(&per_minute), "{per_minute} a minute");

        let refused = swipes.iter().filter(|swipe| !swipe.opened).count() * 100 / swipes.len();
        assert!((3..20).contains(&refused), "{refused} % refused");
        let close = swipes.iter().filter(|swipe| swipe.wait < Duration::from_secs(1)).count();
        assert!(close * 3 > swipes.len(), "{close} of {} close behind another", swipes.len());
        assert!(swipes.iter().all(|swipe| swipe.card.len() == 16 && (1..=DOORS).contains(&swipe.door)));
    }
}
