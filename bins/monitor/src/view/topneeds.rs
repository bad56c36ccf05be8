//! What has to be read for columns to be shown.

use super::topcolumns::Column;
use crate::model::sampler::Scope;
use crate::query::Query;
use drydock_cgroups::Figure;

/// The scope of these columns, and of a condition's.
pub fn scope(columns: &[Column], filter: Option<&Query>) -> Scope {
    let of_filter = filter.map(Query::columns).unwrap_or_default();
    let named = of_filter.iter().filter_map(|name| match name.as_str() {
        "throttled" => Some(Column::Throttled),
        name => Column::named(name),
    });
    let mut scope = Scope::least();
    for column in columns.iter().copied().chain(named) {
        scope.network |= matches!(column, Column::Rx | Column::Tx);
        scope.headroom |= column == Column::Headroom;
        for figure in figures(column) {
            scope.needs = scope.needs.with(*figure);
        }
    }
    scope
}

fn figures(column: Column) -> &'static [Figure] {
    match column {
        Column::Name | Column::Runtime | Column::Pid | Column::Procs | Column::Id | Column::Path => &[],
        Column::Cpu | Column::Memory | Column::Rx | Column::Tx => &[],
        Column::Throttled => &[Figure::Throttling],
        Column::MemoryPercent | Column::Limit | Column::Headroom => &[Figure::MemoryLimit],
        Column::Peak => &[Figure::MemoryPeak],
        Column::Anon | Column::File | Column::Shmem => &[Figure::MemoryParts],
        Column::Kernel => &[Figure::MemoryKernel],
        Column::Swap => &[Figure::Swap],
        Column::Read | Column::Write => &[Figure::Io],
        Column::Pids => &[Figure::Tasks],
        Column::PsiCpu => &[Figure::PressureCpu],
        Column::PsiMemory => &[Figure::PressureMemory],
        Column::PsiIo => &[Figure::PressureIo],
        Column::Oom => &[Figure::Oom],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_conditions_are_read() {
        let nothing = scope(&[Column::Name, Column::Cpu], None);
        assert_eq!(nothing, Scope::least());
        let query = crate::view::top::condition("oom > 0 || rx > 1M && throttled > 5").unwrap();
        let found = scope(&[Column::Name, Column::Headroom], Some(&query));
        assert!(found.network && found.headroom);
        for figure in [Figure::Oom, Figure::MemoryLimit, Figure::Throttling, Figure::Memory] {
            assert!(found.needs.has(figure), "{figure:?}");
        }
        assert!(!found.needs.has(Figure::Io));
    }
}
